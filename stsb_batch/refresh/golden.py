"""Golden scores: a fresh process, which knows nothing of this one, must get the same scores from a checkpoint folder."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from stsb_batch.inference.scorer import score_texts
from stsb_batch.models.checkpoint import open_checkpoint
from stsb_batch.refresh.gate import Check, golden_check
from stsb_batch.settings import Settings

PAIRS = 32
SECONDS = 300.0
Ask = Callable[[str], subprocess.CompletedProcess[str]]  # question as JSON -> what the process that answered it has left


def ask_fresh_process(question: str) -> subprocess.CompletedProcess[str]:
    """Let a child process answer a question."""
    command = [sys.executable, "-P", "-W", "ignore", "-m", "stsb_batch.refresh.golden"]
    return subprocess.run(  # noqa: S603 - our own module
        command, input=question, capture_output=True, text=True, timeout=SECONDS, check=False
    )


def reproduce_scores(folder: Path, scored: pl.DataFrame, settings: Settings, ask: Ask = ask_fresh_process) -> Check:
    """Score up to `PAIRS` of the scored pairs (`left`, `right`, `score`) in a child process and hold them against the gate's
    limit; a child that fails is a failed check."""
    rows = np.unique(np.linspace(0, scored.height - 1, PAIRS).astype(int))
    golden = scored[rows]
    question = {
        "folder": str(folder),
        "left": golden["left"].to_list(),
        "right": golden["right"].to_list(),
        "settings": settings.model_dump(mode="json"),
    }
    try:
        done = ask(json.dumps(question))
    except subprocess.TimeoutExpired:
        return False, f"a fresh process did not score {len(rows)} pairs within {SECONDS:.0f} s"
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no message"])[-1][:200]
        return False, f"a fresh process cannot score with the checkpoint ({said})"
    scores = np.array(json.loads(done.stdout.splitlines()[-1]), np.float32)
    return golden_check(float(np.max(np.abs(scores - golden["score"].to_numpy()))), len(rows))


def main() -> None:
    """Answer one question on stdin with a line of scores on stdout."""
    print(answer(sys.stdin.read()))


def answer(asked: str) -> str:
    """Score a question's pairs with its checkpoint: JSON in, JSON out."""
    question = json.loads(asked)
    checkpoint = open_checkpoint(Path(question["folder"]))
    scores = score_texts(checkpoint, question["left"], question["right"], settings=Settings(**question["settings"]))
    return json.dumps([float(score) for score in scores])


if __name__ == "__main__":
    main()
