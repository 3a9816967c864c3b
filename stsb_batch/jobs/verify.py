"""Check what a scoring run has left: is it all there, unchanged, and what the recorded model says?"""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stsb_batch.durable import file_sha256
from stsb_batch.errors import BadDataError, NothingToReadError, StsbBatchError, UsageError, first_line, shown
from stsb_batch.jobs.scorer import open_scorer
from stsb_batch.models.checkpoint import open_checkpoint
from stsb_batch.pairs import sink
from stsb_batch.pairs.quarantine import choose_rows
from stsb_batch.report.sketch import Sketch
from stsb_batch.report.table import content_sha256
from stsb_batch.scoring.engines import choose_engine
from stsb_batch.settings import Settings

SAMPLE = 200
NAMED = 5  # files that a note names
TOLERANCE = {"fp32": 0.002, "bf16": 0.05, "fp16": 0.05, "int8": 0.1}  # on the 0-5 scale, against the recorded precision


@dataclass
class Verification:
    """What was looked at and what is wrong: one line for each problem, none when all is well."""

    files: int = 0
    rows: int = 0
    rescored: int = 0
    largest_gap: float = 0.0
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Sample:
    """Some rows of a scored file: their positions, texts and recorded scores, and what the file's footer says."""

    path: Path
    rows: list[int]
    left: pa.Array
    right: pa.Array
    scores: np.ndarray
    footer: dict[str, str]


def verify_output(location: Path, *, sample: int = SAMPLE, seed: int = 0, settings: Settings) -> Verification:
    """Verify an output folder or a single scored file, and score a random sample of its rows again.

    Raises `NothingToReadError` when there is no output of ours at `location`, `UsageError` for one file of a folder.
    """
    found = Verification()
    if location.is_dir():
        paths = _check_folder(location, found)
    elif location.is_file():
        paths = _check_single(location, found)
    else:
        raise NothingToReadError(f"{shown(location)}: no output there. Check the path.")
    rng = np.random.default_rng(seed)
    share = [int(sink.footer_entries(path).get("rows", 0)) for path in paths]
    counts = rng.multinomial(sample, np.array(share) / max(1, sum(share))) if sum(share) else [0] * len(paths)
    samples = [_check_file(path, int(count), rng, found) for path, count in zip(paths, counts, strict=True)]
    _rescore([part for part in samples if part], settings, found)
    return found


def _check_folder(root: Path, found: Verification) -> list[Path]:
    """Hold a folder against its `_SUCCESS` and manifest; returns the files that are as they were written."""
    if not (root / "_manifest.json").is_file():
        raise NothingToReadError(f"{shown(root)}: no _manifest.json. The run has not ended, or this is no output of ours.")
    success, digest = root / "_SUCCESS", file_sha256(root / "_manifest.json")
    if not success.is_file():
        found.problems.append("_SUCCESS is missing: the run has not ended. Run the same score command again.")
    elif success.read_bytes().decode(errors="replace").strip() != digest:
        found.problems.append("_manifest.json is not the one that _SUCCESS was written for.")
    try:
        manifest = sink.read_manifest(root)
        expected = {file["path"]: file["sha256"] for file in manifest["files"]}
        expected["_report.parquet"] = manifest["report_sha256"]
        found.notes += _left_out(manifest["bad_files"])
    except (BadDataError, KeyError, TypeError) as error:
        found.problems.append(f"_manifest.json cannot be read ({error}).")
        return []
    for path in sorted(root.rglob("*.parquet")):
        name = str(path.relative_to(root))
        if name not in expected and not name.startswith(sink.STAGING):
            found.problems.append(f"{shown(name)}: not in the manifest.")
    whole = []
    for name, sha256 in expected.items():
        path = root / name
        if not path.is_file():
            found.problems.append(f"{shown(name)}: is missing.")
        elif file_sha256(path) == sha256:
            whole.append(name)
        else:
            found.problems.append(f"{shown(name)}: its SHA-256 is not the manifest's; the file was changed or damaged.")
    entries = {entry["path"]: entry for entry in manifest["files"] if entry["path"] in whole}
    for name, entry in entries.items():
        if sink.footer_entries(root / name).get("fingerprint") != entry["fingerprint"]:
            found.problems.append(f"{shown(name)}: its fingerprint is not that of the manifest; it comes from another plan.")
    return [root / name for name in entries]


def _left_out(bad_files: list[dict]) -> list[str]:
    names = ", ".join(shown(file["path"]) for file in bad_files[:NAMED])
    return [f"Bad files of the input were left out: {names} ({len(bad_files):,} in all)."] if bad_files else []


def _check_single(scored: Path, found: Verification) -> list[Path]:
    """Hold a single scored file against the report beside it; returns it when it is worth a closer look."""
    path = scored.with_suffix(".report.parquet")
    footer = sink.footer_entries(path)
    if not footer:
        folders = [folder for folder in scored.resolve().parents if (folder / "_manifest.json").is_file()]
        if folders:
            raise UsageError(f"{shown(scored)}: is one of several files of a run. Verify them all: {shown(folders[0])}")
        if "fingerprint" not in sink.footer_entries(scored):
            raise NothingToReadError(f"{shown(scored)}: no output of ours, and no {shown(path.name)} beside it.")
        found.problems.append(f"{shown(path.name)}: missing or unreadable.")
        return [scored]
    whole = footer.get("scored_sha256") == file_sha256(scored)
    if not whole:
        found.problems.append(
            f"{shown(scored.name)}: its SHA-256 is not the report's; one of the two was changed or damaged."
        )
    try:
        report = pl.from_arrow(pq.ParquetFile(path, page_checksum_verification=True).read())
        same = content_sha256(report) == footer["content"]
    except (OSError, KeyError, ValueError, pa.ArrowException, pl.exceptions.PolarsError):
        same = False
    if not same:
        found.problems.append(f"{shown(path.name)}: its figures are not those that were written.")
    return [scored] if whole else []


def _check_file(path: Path, count: int, rng: np.random.Generator, found: Verification) -> _Sample | None:
    """Read one scored file with its checksums, hold its rows against footer and row contract, and sample some rows."""
    name, footer = shown(path.name), sink.footer_entries(path)
    if "sketch" not in footer:
        found.problems.append(f"{name}: no footer of ours; unreadable, or not scored by stsb-batch.")
        return None
    try:
        sketch, columns = Sketch(**json.loads(footer["sketch"])), json.loads(footer["columns"])
        wanted = dict.fromkeys([columns["left"], columns["right"], columns["score"]])
        kept, statuses, unlawful, read = [], Counter(), 0, 0
        with pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False) as file:
            total = file.metadata.num_rows
            chosen = np.sort(rng.choice(total, min(count, total), replace=False))
            for batch in file.iter_batches():
                status = batch.column(f"{columns['score']}_status").cast(pa.string())
                has_score = batch.column(columns["score"]).is_valid()
                unlawful += pc.sum(pc.not_equal(has_score, pc.starts_with(status, "OK"))).as_py() or 0
                statuses.update(status.to_pylist())
                here = chosen[(chosen >= read) & (chosen < read + batch.num_rows)] - read
                mask = np.isin(np.arange(batch.num_rows), here)
                kept.append(choose_rows(batch.select([name for name in wanted if name in batch.schema.names]), mask))
                read += batch.num_rows
        table = pa.Table.from_batches(kept) if kept else None
    except (OSError, ValueError, TypeError, KeyError, pa.ArrowException) as error:
        found.problems.append(f"{name}: cannot be read ({first_line(error)}).")
        return None
    found.files += 1
    found.rows += read
    if read != sketch.rows - int(footer["quarantined"]):
        found.problems.append(f"{name}: {read:,} rows, its footer says {sketch.rows:,} less {footer['quarantined']}.")
    if unlawful:
        found.problems.append(f"{name}: {unlawful:,} rows have a score without OK, or OK without a score.")
    expected = Counter({s: n for s, n in sketch.statuses.items() if footer["quarantined"] == "0" or s.startswith("OK")})
    if statuses != expected:
        found.problems.append(f"{name}: rows by status are {dict(statuses)}, its footer says {dict(expected)}.")
    if table is None or not {columns["left"], columns["right"]} <= set(table.column_names):
        found.notes.append(f"{name}: does not hold its texts, so that none of its rows can be scored again.")
        return None
    left, right = (table[columns[side]].combine_chunks() for side in ("left", "right"))
    scores = table[columns["score"]].to_numpy(zero_copy_only=False)
    return _Sample(path, chosen.tolist(), left, right, scores, footer)


def _rescore(samples: list[_Sample], settings: Settings, found: Verification) -> None:
    """Score the sampled rows again with the recorded model and engine, and compare."""
    if not any(sample.rows for sample in samples):
        return
    footer = samples[0].footer
    try:
        checkpoint = open_checkpoint(Path(footer["model_path"]), footer["model"])
        if checkpoint.digest != footer["model_digest"]:
            found.problems.append(f"{footer['model']}: its digest is not the recorded one; no row was scored again.")
            return
        choice = choose_engine(footer["engine"], footer["precision"])
    except StsbBatchError as error:
        found.notes.append(f"No row was scored again: {error}")
        return
    scorer = open_scorer(
        checkpoint,
        choice,
        max_length=int(footer["max_length"]),
        max_tokens=settings.max_tokens,
        cache=settings.home / "cache",
        parity=False,
    )
    for sample in samples:
        again = scorer.score(sample.left, sample.right).scores
        gaps = np.abs(again - sample.scores)
        found.rescored += int(np.isfinite(gaps).sum())
        found.largest_gap = max(found.largest_gap, float(np.nan_to_num(gaps).max(initial=0.0)))
        wrong = np.flatnonzero((gaps > TOLERANCE[choice.precision]) | (np.isnan(again) != np.isnan(sample.scores)))
        if len(wrong):
            first = int(wrong[0])
            found.problems.append(
                f"{shown(sample.path.name)}: {len(wrong)} of {len(sample.rows)} sampled rows score differently now, the "
                f"first is row {sample.rows[first]:,} (from 0): {sample.scores[first]:.4f} recorded, {again[first]:.4f} now."
            )
