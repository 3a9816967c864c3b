"""The end of a scoring job: reconcile, report, manifest, `_SUCCESS`."""

import datetime as dt
import hashlib
import json
import logging
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from stsb_batch.durable import file_sha256, write_atomically
from stsb_batch.errors import BadDataError, StsbBatchError, escape_control, first_line
from stsb_batch.inference.scorer import reference_choice
from stsb_batch.pairs import sink
from stsb_batch.pairs.layout import earlier, report_of
from stsb_batch.pairs.quarantine import sweep_side_files, withdraw
from stsb_batch.pairs.schema import CONTRACT_VERSION, output_schema
from stsb_batch.pairs.source import BadFile, Shard
from stsb_batch.report.drift import compare
from stsb_batch.report.sketch import UNKNOWN_LIMIT, Sketch
from stsb_batch.report.table import RunFacts, build_report, drift_rows, parts, report_bytes, whole_share
from stsb_batch.requests import ScoreRequest
from stsb_batch.scoring.history import earlier_report, past_runs, report_name, reports_folder, series_of
from stsb_batch.scoring.labelled import labelled_scores
from stsb_batch.scoring.plan import ScorePlan, judge_bad_files
from stsb_batch.scoring.spec import ShardResult, describe_unscored

log = logging.getLogger(__name__)
MAX_FILES_NAMED = 4  # in a line
MANY_BAD_ROWS, FILES_LEFT_OUT = "many rows without a score", "files left out"  # what a run's state says


@dataclass(frozen=True)
class ScoreOutcome:
    """A finished job: where its files are, its report, and how much was done now or had been done before.

    `results` describes each output file: rows, bytes, SHA-256, footer.
    """

    request: ScoreRequest
    target: sink.Target
    report: pl.DataFrame
    rows: int
    shards: int
    shards_scored: int
    bad_rows: int
    bad_files: list[BadFile]
    seconds: float
    results: dict[Path, sink.CommittedFile]

    @property
    def warnings(self) -> dict[str, str]:
        """Return the warnings about a finished run: words for its state -> figures, limit and option."""
        found = {}
        if self.bad_files:
            names = ", ".join(
                f"{escape_control(bad.relative)} {bad.error.reason}" for bad in self.bad_files[:MAX_FILES_NAMED]
            )
            more = f" and {len(self.bad_files) - MAX_FILES_NAMED:,} more" if len(self.bad_files) > MAX_FILES_NAMED else ""
            found[FILES_LEFT_OUT] = f"files left out: {len(self.bad_files):,} ({names}{more}; --on-bad-file)"
        if self.bad_rows > whole_share(self.request.warn_bad_rows, self.rows):
            found[MANY_BAD_ROWS] = (
                f"{self.bad_rows:,} of {self.rows:,} rows ({self.bad_rows / self.rows:.2%}) have no score "
                f"({describe_unscored(dict(parts(self.report, 'rows_by_status')))}), the limit is "
                f"{self.request.warn_bad_rows:.2%} (--warn-bad-rows)"
            )
        return found

    def exit_code(self) -> int:
        """Return 11 when files were left out, 10 when too many rows have no score; 0 for neither, or when lenient."""
        if not self.warnings or self.request.strictness == "lenient":
            return 0
        return 11 if self.bad_files else 10

    def explain(self) -> str | None:
        """Explain the exit code in a line; None without a warning."""
        code = self.exit_code()
        return f"Exit code {code or '0 (--lenient)'}: {'; '.join(self.warnings.values())}." if self.warnings else None


def finish_job(plan: ScorePlan, scored: list[ShardResult]) -> ScoreOutcome:
    """Reconcile, write report, manifest and `_SUCCESS`. `scored` are the shards that this run has scored."""
    plan = _without_bad_files(plan, [result.bad_file for result in scored if result.bad_file])
    now = {result.output: result.committed for result in scored if result.committed}
    results = {
        shard.output: now.get(shard.output) or sink.committed(plan.target.path(shard.output)) for shard in plan.shards
    }
    before = sink.finished_manifest(plan.target)
    listed = {file["fingerprint"]: file["sha256"] for file in before.get("files", [])} if before else {}
    parts = []
    for shard in plan.shards:
        sha256 = None if shard.output in now else listed.get(shard.fingerprint)
        parts.append(_read_footer(plan, shard, results[shard.output], sha256))
    sketch, quarantined = Sketch(), sum(quarantined for _, quarantined in parts)
    for part, _ in parts:
        sketch = sketch.merge(part)
    rows = sum(result.rows for result in results.values())
    if rows + quarantined != plan.rows or sketch.rows != plan.rows:
        raise StsbBatchError(
            f"bug: {plan.rows} rows in, {rows} rows out and {quarantined} in quarantine; the run is not marked as done."
        )
    plan.row_limit.check(sketch)
    if sketch.unknown_token_rate > UNKNOWN_LIMIT:
        log.warning(
            "%s: %.1f %% of the tokens are unknown to the model's tokeniser (limit %.0f %%): their scores are unreliable. "
            "Use a model trained on the language of these texts.",
            escape_control(plan.request.location),
            100 * sketch.unknown_token_rate,
            100 * UNKNOWN_LIMIT,
        )
    seconds = (dt.datetime.now(dt.UTC) - plan.started).total_seconds()
    stale = sink.stale_files(plan.target, plan.shards)
    if stale or not _is_finished(plan, results, before):
        sink.take_over(plan.target)
        drift = _drift(plan, sketch)
        report = build_report(
            run_facts(plan, quarantined), sketch, **labelled_scores(plan), wall_seconds=seconds, drift=drift
        )
        _write_report(plan, report, sketch)
        manifest = _manifest(plan, results)
        with_rows = [Path(file["path"]) for file in manifest["files"] if file["quarantined"]]
        sweep_side_files(plan.target, {plan.target.side_path(output) for output in with_rows})
        sink.finish_commits(plan.target, manifest, stale)
    return ScoreOutcome(
        request=plan.request,
        target=plan.target,
        report=pl.read_parquet(report_of(plan.target), memory_map=False, glob=False),
        rows=plan.rows,
        shards=len(plan.shards),
        shards_scored=len(scored),
        bad_rows=sketch.rows - sketch.scored,
        bad_files=plan.bad_files,
        seconds=seconds,
        results=results,
    )


def _without_bad_files(plan: ScorePlan, bad: list[BadFile]) -> ScorePlan:
    """Leave out files that turned out bad while they were scored: what is committed of them is withdrawn."""
    found = {file.relative: file for file in bad}
    if not found:
        return plan
    for relative in found:
        withdraw_file(plan, relative)
    bad_files = [*plan.bad_files, *found.values()]
    judge_bad_files(plan.request, bad_files, plan.files)
    shards = [shard for shard in plan.shards if shard.source.relative not in found]
    return replace(plan, shards=shards, bad_files=bad_files)


def withdraw_file(plan: ScorePlan, relative: Path) -> None:
    """Take back what is committed of an input file."""
    for shard in plan.shards:
        if shard.source.relative == relative and sink.is_committed(plan.target, shard):
            plan.target.path(shard.output).unlink()
            withdraw(plan.target.side_path(shard.output))


def _read_footer(plan: ScorePlan, shard: Shard, result: sink.CommittedFile, sha256: str | None) -> tuple[Sketch, int]:
    """Return the sketch of a committed shard and how many rows it put aside.

    Raises `BadDataError` where its file was damaged since: when its footer contradicts the plan, or it has
    not the digest that the manifest of an earlier run had for it, if there was one.
    """
    try:
        sketch = Sketch.from_json(json.loads(result.footer["sketch"]))
        quarantined = int(result.footer["quarantined"])
        is_intact = sketch.rows == result.rows + quarantined == shard.rows
    except (KeyError, ValueError):
        is_intact = False
    if not is_intact or sha256 not in (None, result.sha256):
        name = escape_control(plan.target.path(shard.output))
        raise BadDataError(f"{name}: was damaged after it was scored. Remove it and run the same command again.")
    return sketch, quarantined


def _is_finished(plan: ScorePlan, results: dict[Path, sink.CommittedFile], manifest: dict | None) -> bool:
    """Say whether an earlier run ended with this very result. `manifest` is that run's, None where it is lost or damaged."""
    target, label = plan.target, plan.request.columns.labelled_by
    if target.single and not target.manifest.exists():
        found = earlier_report(earlier(target).report)
        recorded = found.footer if found else {}
        return (recorded.get("scored_sha256"), recorded.get("label")) == (_sha256(results)[0], label)
    return manifest is not None and (
        [file["sha256"] for file in manifest.get("files", [])] == _sha256(results)
        and manifest["bad_files"] == [bad.to_json() for bad in plan.bad_files]
        and manifest.get("columns", {}).get("label") == label
    )


def _sha256(results: dict[Path, sink.CommittedFile]) -> list[str]:
    return [result.sha256 for result in results.values()]


def _parity(plan: ScorePlan) -> str:
    if plan.choice == reference_choice(plan.choice):
        return "not applicable"
    return "compared" if plan.request.parity else "off"


def run_facts(plan: ScorePlan, quarantined: int = 0) -> RunFacts:
    return RunFacts(
        run_id=plan.run_id,
        run_at=plan.started,
        dataset=Path(plan.request.location).name,
        model=plan.checkpoint.name,
        model_digest=plan.checkpoint.digest,
        engine=plan.choice.engine,
        precision=plan.choice.precision,
        parity=_parity(plan),
        rows_quarantined=quarantined,
        bad_files=Counter(bad.error.reason for bad in plan.bad_files),
        duplicate_files=len(plan.duplicates),
        skipped_files=len(plan.skipped),
    )


def _drift(plan: ScorePlan, sketch: Sketch) -> list[dict]:
    """Compare the run's rows with those of the last night of its series, as report rows; nothing before the second night."""
    request = plan.request
    try:
        for last in past_runs(request.settings.home, series_of(request.location, request.columns), before=plan.started):
            same_model = last.report["model_digest"][0] == plan.checkpoint.digest
            figures = compare(sketch, last.sketch, same_model=same_model)
            return drift_rows(figures, last.report["run_id"][0], last.sketch.rows)
    except Exception as error:  # noqa: BLE001 - the scores are committed: nothing in an old report may end their run
        log.warning("no drift figures: the report of the last run cannot be used (%s)", first_line(error))
    return []


def _write_report(plan: ScorePlan, report: pl.DataFrame, sketch: Sketch) -> None:
    """Write the report beside the output, and a copy into the history, which reads as one table.

    The footer's sketch and series are what the next night is compared with.
    """
    content = report_bytes(
        report,
        series_of(plan.request.location, plan.request.columns).footer()
        | {"sketch": json.dumps(sketch.to_json(), separators=(",", ":"))},
    )
    sink.write_staged(plan.target, plan.target.report, content)
    name = report_name(plan.started, hashlib.sha256(content).hexdigest())
    write_atomically(reports_folder(plan.request.settings.home) / name, content)


def _quarantine_sha256(plan: ScorePlan, output: Path, rows: int) -> str | None:
    if not rows:
        return None
    path = plan.target.side_path(output)
    if not path.is_file():
        scored = escape_control(plan.target.path(output))
        raise BadDataError(f"{escape_control(path)}: its rows are lost. Remove {scored} and run the same command again.")
    return file_sha256(path)


def _manifest(plan: ScorePlan, results: dict[Path, sink.CommittedFile]) -> dict:
    files = [
        {
            "path": str(plan.target.path(shard.output).relative_to(plan.target.root)),
            "rows": results[shard.output].rows,
            "quarantined": int(results[shard.output].footer["quarantined"]),
            "bytes": results[shard.output].bytes,
            "sha256": results[shard.output].sha256,
            "quarantine_sha256": _quarantine_sha256(plan, shard.output, int(results[shard.output].footer["quarantined"])),
            "fingerprint": shard.fingerprint,
            "input": shard.source.record() | {"row_groups": list(shard.row_groups)},
            "schema": {field.name: str(field.type) for field in output_schema(shard.source.schema, plan.request.columns)},
        }
        for shard in plan.shards
    ]
    return {
        "contract": CONTRACT_VERSION,
        "run_id": plan.run_id,
        "run_at": plan.started.isoformat(timespec="seconds"),
        "model": plan.checkpoint.name,
        "model_digest": plan.checkpoint.digest,
        "engine": str(plan.choice),
        "max_length": plan.max_length,
        "columns": plan.request.columns.named(),
        "rows": sum(file["rows"] for file in files),
        "files": files,
        "report_sha256": file_sha256(plan.target.report),
        "bad_files": [bad.to_json() for bad in plan.bad_files],
        "doubles": [escape_control(name) for name in plan.duplicates],
        "passed_over": [escape_control(name) for name in plan.skipped],
    }
