"""Golden scores: a fresh process must get the same scores from a checkpoint folder as the process that trained it.

Run as a module it is that fresh process: a request in JSON on stdin, a JSON list of scores on stdout.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from stsb_batch.inference.scorer import open_plain_scorer, score_texts
from stsb_batch.models.checkpoint import open_checkpoint
from stsb_batch.refresh.gate import Check, golden_check
from stsb_batch.settings import Settings

GOLDEN_PAIRS = 32
TIMEOUT_SECONDS = 300.0
Ask = Callable[[str], subprocess.CompletedProcess[str]]  # takes a request as JSON


def ask_fresh_process(request_json: str) -> subprocess.CompletedProcess[str]:
    """Have a child process answer a request."""
    command = [sys.executable, "-P", "-W", "ignore", "-m", "stsb_batch.refresh.golden"]
    return subprocess.run(  # noqa: S603 - our own module
        command, input=request_json, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
    )


def reproduce_scores(folder: Path, scored: pl.DataFrame, settings: Settings, ask: Ask = ask_fresh_process) -> Check:
    """Score up to `GOLDEN_PAIRS` of the scored pairs (`left`, `right`, `score`) in a child process and compare the scores.

    The check fails where the largest difference exceeds the gate's limit, and where the child fails or exceeds its timeout.
    """
    rows = np.unique(np.linspace(0, scored.height - 1, GOLDEN_PAIRS).astype(int))
    golden = scored[rows]
    request = {
        "folder": str(folder),
        "left": golden["left"].to_list(),
        "right": golden["right"].to_list(),
        "settings": settings.model_dump(mode="json"),
    }
    try:
        child = ask(json.dumps(request))
    except subprocess.TimeoutExpired:
        detail = f"a fresh process did not score {len(rows)} pairs within {TIMEOUT_SECONDS:.0f} s"
        return Check(False, "golden_scores", detail)
    if child.returncode:
        reason = (child.stderr.strip().splitlines() or ["no message"])[-1][:200]
        return Check(False, "golden_scores", f"a fresh process cannot score with the checkpoint ({reason})")
    scores = np.array(json.loads(child.stdout.splitlines()[-1]), np.float32)
    return golden_check(float(np.max(np.abs(scores - golden["score"].to_numpy()))), len(rows))


def answer(request_json: str) -> str:
    """Score the pairs of a request with its checkpoint: JSON in, a JSON list of scores out."""
    request = json.loads(request_json)
    scorer = open_plain_scorer(open_checkpoint(Path(request["folder"])), Settings(**request["settings"]))
    scores = score_texts(scorer, request["left"], request["right"])
    return json.dumps([float(score) for score in scores])


if __name__ == "__main__":
    print(answer(sys.stdin.read()))
