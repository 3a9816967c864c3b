"""The start of a scoring job: check the request and cut the work into shards, before anything is loaded or written."""

import datetime as dt
import logging
import uuid
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from stsb_batch.durable import json_sha256
from stsb_batch.errors import BadDataError, BadFileError, UsageError, escape_control
from stsb_batch.inference.engines import EngineChoice, choose_engine
from stsb_batch.models.checkpoint import Checkpoint
from stsb_batch.models.registry import resolve_model
from stsb_batch.pairs import sink, source
from stsb_batch.pairs.listing import describe_skipped, find_files
from stsb_batch.pairs.sandbox import Sandbox
from stsb_batch.pairs.schema import CONTRACT_VERSION, find_label, kept_names
from stsb_batch.pairs.source import BadFile, Shard, SourceFile
from stsb_batch.report.table import whole_share
from stsb_batch.requests import ScoreRequest
from stsb_batch.scoring.spec import RowLimit, ScoreSpec

log = logging.getLogger(__name__)

MAX_ERRORS_SHOWN = 20  # of bad files


@dataclass(frozen=True)
class ScorePlan:
    """A checked request: which shards, by which model and engine, to where. Nothing has been written yet.

    `bad_files` are left out already; `duplicates` are further names of files that are scored once; `skipped`
    are files that are not Parquet.
    """

    request: ScoreRequest
    target: sink.Target
    shards: list[Shard]
    bad_files: list[BadFile]
    duplicates: list[Path]
    skipped: list[Path]
    checkpoint: Checkpoint
    choice: EngineChoice
    max_length: int
    run_id: str
    started: dt.datetime

    @property
    def rows(self) -> int:
        return sum(shard.rows for shard in self.shards)

    @cached_property
    def row_limit(self) -> RowLimit:
        """How many rows may have no score: `max_bad_rows`, or with --strict `warn_bad_rows` where that is less."""
        request = self.request
        allowed, option = allowance(request.max_bad_rows, self.rows), "--max-bad-rows"
        if request.strictness == "strict" and (strictly := whole_share(request.warn_bad_rows, self.rows)) < allowed:
            allowed, option = strictly, "--strict, --warn-bad-rows"
        return RowLimit(self.rows, allowed, option)

    @property
    def spec(self) -> ScoreSpec:
        """What scoring a shard of this plan needs to know."""
        request, settings = self.request, self.request.settings
        return ScoreSpec(
            run_id=self.run_id,
            started=self.started,
            requested_at=request.requested_at,
            target=self.target,
            checkpoint=self.checkpoint,
            choice=self.choice,
            columns=request.columns,
            max_length=self.max_length,
            max_tokens=settings.max_tokens,
            fixed_shapes=settings.fixed_shapes,
            parity=request.parity,
            on_bad_row=request.on_bad_row,
            row_limit=self.row_limit,
            cache=settings.home / "cache",
            stall_seconds=settings.stall_seconds,
        )

    @property
    def files(self) -> int:
        return len({shard.source.path for shard in self.shards}) + len(self.bad_files)


def plan_score(request: ScoreRequest, *, probe_rows: bool = True) -> ScorePlan:
    """Check input, columns, output and model, and cut the work into shards. Loads no model.

    Footers are read in any case; with `probe_rows` the sandbox also decodes the files that have shards to score, so that
    a corrupt one is known before the first row is scored. Bad files are left out of the plan, or end it (`BadDataError`).
    """
    settings = request.settings
    target = sink.choose_target(request.location, request.output) if request.output else None
    listing = find_files(request.location)
    with Sandbox() as sandbox:
        sources, bad = source.inspect_files(listing, request.columns, sandbox)
        judge_bad_files(request, bad, len(listing.files))
        target = target or sink.choose_target(request.location, None)
        sink.check_target(target, sources, listing.root)
        checkpoint = resolve_model(settings.home, request.model, timeout=settings.hub_timeout)
        choice = choose_engine(settings.engine, settings.precision)
        max_length = min(settings.max_length, checkpoint.max_length)
        common = {
            "contract": CONTRACT_VERSION,
            "columns": [request.columns.left, request.columns.right, request.columns.keep, request.columns.score],
            "bad_rows": "quarantine" if request.on_bad_row == "quarantine" else "keep",
            "digest": checkpoint.digest,
            "max_length": max_length,
            "engine": [choice.engine, choice.device, choice.precision],
        }
        shards: list[Shard] = []
        for file in sources:
            try:
                cut = _cut(file, target, common, settings.shard_rows)
                if probe_rows and any(not sink.is_committed(target, shard) for shard in cut):
                    probed = source.probe_rows(cut[0].source, read_names(request, file.schema), sandbox)
                    cut = [replace(shard, source=probed) for shard in cut]
                shards += cut
            except BadFileError as error:
                bad.append(BadFile(file.relative, error))
        judge_bad_files(request, bad, len(listing.files))
    outputs = Counter(shard.output for shard in shards)
    if double := next((output for output, count in outputs.items() if count > 1), None):
        raise UsageError(f"{escape_control(double)}: two input files would be written there. Rename one of them.")
    run_id, now = uuid.uuid4().hex, dt.datetime.now(dt.UTC)
    if listing.skipped:
        log.warning("%s: %s", escape_control(request.location), describe_skipped(listing.skipped))
    duplicates, skipped = listing.duplicates, listing.skipped
    return ScorePlan(request, target, shards, bad, duplicates, skipped, checkpoint, choice, max_length, run_id, now)


def _cut(file: SourceFile, target: sink.Target, common: dict, shard_rows: int) -> list[Shard]:
    """Cut a file into shards with their fingerprints; a single-file run is one shard."""
    spans = [tuple(range(len(file.row_groups)))] if target.single else source.cut_row_groups(file, shard_rows)
    outputs = [sink.output_name(file, index, len(spans)) for index in range(len(spans))]
    file = source.with_digest(file, sink.recorded_input(target.path(outputs[0])))
    identity = file.identity()
    return [
        Shard(file, span, output, json_sha256({**common, "input": identity, "row_groups": span}))
        for span, output in zip(spans, outputs, strict=True)
    ]


def read_names(request: ScoreRequest, schema: pa.Schema) -> list[str] | None:
    """Name the input columns that a job decodes or copies; None for all of them."""
    columns = request.columns
    if columns.keep is None or request.on_bad_row == "quarantine":
        return None
    label = find_label(schema, columns)
    return list(dict.fromkeys([*kept_names(schema, columns), columns.left, columns.right, *([label] if label else [])]))


def allowance(share: float, count: int) -> int:
    """Return how many of `count` may be bad: the share, but at least one unless the share is 0."""
    return max(1, whole_share(share, count)) if share > 0 else 0


def judge_bad_files(request: ScoreRequest, bad: list[BadFile], files: int) -> None:
    """Raise when bad files end the run: a single file, on request, above the budget, or when no good file is left."""
    if not bad:
        return
    if not Path(request.location).is_dir() and files == 1:
        raise bad[0].error
    may_be = request.on_bad_file != "fail" and request.strictness != "strict"
    allowed = allowance(request.max_bad_files, files) if may_be else 0
    if len(bad) <= allowed and len(bad) < files:
        return
    shown_lines = [str(file.error) for file in bad[:MAX_ERRORS_SHOWN]]
    more = [f"... and {len(bad) - MAX_ERRORS_SHOWN:,} more."] if len(bad) > MAX_ERRORS_SHOWN else []
    verdict = f"{len(bad):,} of {files:,} files are bad, {allowed:,} may be (--on-bad-file, --max-bad-files, --strict)."
    if len(bad) == files:
        verdict = "None of the files can be scored."
    raise BadDataError("\n".join([*shown_lines, *more, verdict]))
