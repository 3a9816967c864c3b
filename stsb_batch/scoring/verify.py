"""Check the output of a scoring run: complete, unchanged, and what the recorded model gives."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stsb_batch.durable import file_sha256
from stsb_batch.errors import NothingToReadError, StsbBatchError, UsageError, escape_control, first_line
from stsb_batch.inference.engines import choose_engine
from stsb_batch.inference.scorer import open_scorer
from stsb_batch.models.checkpoint import open_checkpoint
from stsb_batch.pairs import sink
from stsb_batch.pairs.layout import STAGING, Target, earlier, report_of
from stsb_batch.pairs.quarantine import choose_rows
from stsb_batch.report.sketch import Sketch
from stsb_batch.scoring.history import earlier_report
from stsb_batch.settings import Settings

SAMPLE = 200
NAMED = 5  # files that a note names
EARLIER = "written by version 0.1.0"
TOLERANCE = {"fp32": 0.002, "bf16": 0.05, "fp16": 0.05, "int8": 0.1}  # on the 0-5 scale, against the recorded precision


@dataclass
class Verification:
    """What was checked, and a line for each problem found."""

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


def verify_output(
    location: Path,
    *,
    sample: int = SAMPLE,
    seed: int = 0,
    settings: Settings,
    tolerance: Mapping[str, float] = TOLERANCE,
) -> Verification:
    """Verify an output folder or a single scored file, and score a random sample of its rows again.

    `tolerance` is how far a score may be away, by precision, on the 0-5 scale.

    Raises `NothingToReadError` when `location` has no output of this package, `UsageError` for one file of a folder.
    """
    found = Verification()
    if location.is_dir():
        target = Target(location)
    elif location.is_file():
        target = Target(location.parent, location)
    else:
        raise NothingToReadError(f"{escape_control(location)}: no output there. Check the path.")
    if target.manifest.is_file():
        entries = _check_listed(target, found)
    elif target.single:
        entries = _check_earlier(target, found)
    else:
        raise NothingToReadError(
            f"{escape_control(location)}: no {target.manifest.name}. The run has not ended, or this is not an output."
        )
    rng = np.random.default_rng(seed)
    share = [entry["rows"] for entry in entries]
    counts = rng.multinomial(sample, np.array(share) / max(1, sum(share))) if sum(share) else [0] * len(share)
    samples = [
        _check_file(target.root / entry["path"], int(count), rng, found)
        for entry, count in zip(entries, counts, strict=True)
    ]
    _rescore([part for part in samples if part], settings, tolerance, found)
    return found


def _check_listed(target: Target, found: Verification) -> list[dict]:
    """Compare an output with its manifest, and that with `_SUCCESS`; returns the entries of files with the right digest.

    No file is parsed whose digest is wrong.
    """
    content, name = target.manifest.read_bytes(), target.manifest.name
    if not target.single:
        success = target.root / "_SUCCESS"
        if not success.is_file():
            found.problems.append("_SUCCESS is missing: the run has not ended. Run the same score command again.")
        elif success.read_bytes() != hashlib.sha256(content).hexdigest().encode():
            found.problems.append(f"{name} is not the one that _SUCCESS was written for.")
    try:
        manifest = sink.parse_manifest(content)
    except ValueError as error:
        found.problems.append(f"{name} cannot be read ({escape_control(error)}). Run the same score command again.")
        return []
    found.notes += _left_out(manifest["bad_files"])
    report = report_of(target)
    expected = {target.root / file["path"]: file["sha256"] for file in manifest["files"]}
    expected[report] = manifest["report_sha256"]
    for file in manifest["files"]:
        if file.get("quarantine_sha256"):
            expected[target.side_path(Path(file["path"]))] = file["quarantine_sha256"]
        elif file["quarantined"]:
            found.notes.append(f"{escape_control(file['path'])}: its quarantined rows cannot be checked ({EARLIER}).")
    for path in _files_of(target):
        if path not in expected:
            found.problems.append(f"{_name(path, target)}: not in the manifest.")
    intact = {path for path, sha256 in expected.items() if _is_intact(path, sha256, target, found)}
    entries = [entry for entry in manifest["files"] if target.root / entry["path"] in intact]
    for entry in entries:
        if sink.footer_entries(target.root / entry["path"]).get("fingerprint") != entry["fingerprint"]:
            found.problems.append(
                f"{escape_control(entry['path'])}: its fingerprint is not the manifest's; it is from another plan."
            )
    return entries


def _files_of(target: Target) -> Iterator[Path]:
    """List the files of an output that its manifest should list; other outputs inside its folder are not entered."""
    yield from (path for path in target.side_files if path.is_file())
    if not target.single:
        for path in sorted(target.root.rglob("*.parquet")):
            above = [folder for folder in path.parents if folder.is_relative_to(target.root) and folder != target.root]
            if not any(folder.name == STAGING or (folder / "_manifest.json").is_file() for folder in above):
                yield path


def _is_intact(path: Path, sha256: str, target: Target, found: Verification) -> bool:
    if not path.is_file():
        found.problems.append(f"{_name(path, target)}: is missing.")
    elif file_sha256(path) != sha256:
        found.problems.append(f"{_name(path, target)}: its SHA-256 is not the manifest's; the file was changed or damaged.")
    else:
        return True
    return False


def _name(path: Path, target: Target) -> str:
    return escape_control(path.relative_to(target.root))


def _left_out(bad_files: list[dict]) -> list[str]:
    names = ", ".join(escape_control(file["path"]) for file in bad_files[:NAMED])
    return [f"Bad files of the input were left out: {names} ({len(bad_files):,} in all)."] if bad_files else []


def _check_earlier(target: Target, found: Verification) -> list[dict]:
    """Compare a single file without a manifest with the report that version 0.1.0 wrote beside it."""
    scored, path = target.name, earlier(target).report
    folders = [folder for folder in scored.resolve().parents if (folder / "_manifest.json").is_file()]
    if folders:
        raise UsageError(
            f"{escape_control(scored)}: is one of several files of a run. Verify them all: {escape_control(folders[0])}"
        )
    footer = sink.footer_entries(scored)
    if not path.is_file():
        if "fingerprint" not in footer:
            raise NothingToReadError(
                f"{escape_control(scored)}: not an output of stsb-batch, no {escape_control(target.manifest.name)} is there."
            )
        found.problems.append(f"{target.manifest.name}: is missing: the run has not ended. Run the same command again.")
        return []
    report = earlier_report(path)
    if report is None:
        found.problems.append(f"{escape_control(path.name)}: its figures are not those that were written.")
        return []
    found.notes.append(f"{escape_control(path.name)}: only its figures can be checked, and no quarantined rows ({EARLIER}).")
    if report.footer.get("scored_sha256") != file_sha256(scored):
        found.problems.append(
            f"{escape_control(scored.name)}: its SHA-256 is not the report's; the file was changed or damaged."
        )
        return []
    return [{"path": scored.name, "rows": pq.read_metadata(scored).num_rows}]


def _check_file(path: Path, count: int, rng: np.random.Generator, found: Verification) -> _Sample | None:
    """Read one scored file with its checksums, compare its rows with footer and row contract, and sample some rows."""
    name, footer = escape_control(path.name), sink.footer_entries(path)
    try:
        sketch, columns = Sketch.from_json(json.loads(footer["sketch"])), json.loads(footer["columns"])
        quarantined = int(footer["quarantined"])
        wanted = dict.fromkeys([columns["left"], columns["right"], columns["score"]])
        kept, contradictory, read = [], 0, 0
        statuses: Counter[str] = Counter()
        with pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False) as file:
            total = file.metadata.num_rows
            chosen = np.sort(rng.choice(total, min(count, total), replace=False))
            for batch in file.iter_batches():
                status = batch.column(f"{columns['score']}_status").cast(pa.string())
                has_score = batch.column(columns["score"]).is_valid()
                contradictory += pc.sum(pc.not_equal(has_score, pc.starts_with(status, "OK"))).as_py() or 0
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
    if read != sketch.rows - quarantined:
        found.problems.append(f"{name}: {read:,} rows, its footer says {sketch.rows:,} less {quarantined:,}.")
    if contradictory:
        found.problems.append(f"{name}: {contradictory:,} rows have a score without OK, or OK without a score.")
    expected = Counter({s: n for s, n in sketch.statuses.items() if not quarantined or s.startswith("OK")})
    if statuses != expected:
        found.problems.append(f"{name}: rows by status are {dict(statuses)}, its footer says {dict(expected)}.")
    if table is None or not {columns["left"], columns["right"]} <= set(table.column_names):
        found.notes.append(f"{name}: its texts were not kept, so none of its rows can be scored again.")
        return None
    left, right = (table[columns[side]].combine_chunks() for side in ("left", "right"))
    scores = table[columns["score"]].to_numpy(zero_copy_only=False)
    return _Sample(path, chosen.tolist(), left, right, scores, footer)


def _rescore(samples: list[_Sample], settings: Settings, tolerance: Mapping[str, float], found: Verification) -> None:
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
        wrong = np.flatnonzero((gaps > tolerance[choice.precision]) | (np.isnan(again) != np.isnan(sample.scores)))
        if len(wrong):
            first = int(wrong[0])
            found.problems.append(
                f"{escape_control(sample.path.name)}: {len(wrong)} of {len(sample.rows)} sampled rows score differently "
                f"now, the first is row {sample.rows[first]:,} (from 0): "
                f"{sample.scores[first]:.4f} recorded, {again[first]:.4f} now."
            )
