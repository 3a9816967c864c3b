"""What a verb prints at its end: a summary for people on the terminal, or JSON for machines."""

import json
from dataclasses import asdict
from pathlib import Path

import polars as pl
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from stsb_batch.cli.output import out
from stsb_batch.doctor import Finding
from stsb_batch.errors import BadDataError, NothingToReadError, first_line, storage_error
from stsb_batch.pairs.layout import Target, is_report, report_of
from stsb_batch.pairs.sink import choose_target
from stsb_batch.pairs.source import BadFile, Shard
from stsb_batch.report.table import SCHEMA, metrics_of
from stsb_batch.report.text import counted, report_view
from stsb_batch.scoring.finish import ScoreOutcome
from stsb_batch.scoring.plan import ScorePlan
from stsb_batch.scoring.verify import Verification


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=1, default=str))


def nearby(path: Path) -> str:
    """Show a path as a person would type it from here."""
    return escape(str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path))


def show_plan(plan: ScorePlan, pending: list[Shard], *, as_json: bool) -> None:
    shards = [
        {
            "input": str(s.source.relative),
            "output": str(plan.target.path(s.output)),
            "rows": s.rows,
            "row_groups": len(s.row_groups),
        }
        for s in plan.shards
    ]
    facts = {
        "rows": plan.rows,
        "shards": len(shards),
        "shards_done_before": len(shards) - len(pending),
        "model": plan.checkpoint.name,
        "model_digest": plan.checkpoint.digest,
        "engine": str(plan.choice),
        "max_length": plan.max_length,
        "output": str(plan.target.name),
        "files_left_out": [bad.to_json() for bad in plan.bad_files],
    }
    if as_json:
        _print_json(facts | {"plan": shards})
        return
    table = Table(title="Plan (nothing is scored)", title_justify="left")
    for name in ("input", "rows", "row groups", "output"):
        table.add_column(name, justify="right" if name.startswith("row") else "left")
    for shard in shards:
        row = (str(shard["input"]), f"{shard['rows']:,}", str(shard["row_groups"]), nearby(Path(str(shard["output"]))))
        table.add_row(escape(row[0]), *row[1:])
    out.print(table)
    done = ""
    if len(pending) < len(shards):
        done = f", {len(shards) - len(pending)} of them done before" if pending else ", all done before"
    out.print(
        f"{plan.rows:,} rows in {counted(len(shards), 'shard')}{done} · {escape(plan.checkpoint.name)} "
        f"({plan.checkpoint.digest[:12]})"
    )
    out.print(f"{plan.choice}, at most {plan.max_length} tokens a pair")
    _show_bad_files(plan.bad_files)


def show_outcome(outcome: ScoreOutcome, *, as_json: bool) -> None:
    if as_json:
        _print_json(
            {
                "output": str(outcome.target.name),
                "report": str(report_of(outcome.target)),
                "rows": outcome.rows,
                "rows_without_score": outcome.bad_rows,
                "files_left_out": [bad.to_json() for bad in outcome.bad_files],
                "remarks": list(outcome.warnings),
                "shards": outcome.shards,
                "shards_scored_now": outcome.shards_scored,
                "seconds": round(outcome.seconds, 3),
                "model": outcome.report["model"][0],
                "model_digest": outcome.report["model_digest"][0],
                "metrics": {row["metric"]: row["value"] for row in metrics_of(outcome.report)},
            }
        )
        return
    out.print(report_view(outcome.report))
    out.print()
    if not outcome.shards_scored:
        out.print("Nothing to do: all of it had been scored before by the same model and options.")
    elif outcome.shards_scored < outcome.shards:
        kept = outcome.shards - outcome.shards_scored
        out.print(f"{kept} of {outcome.shards} shards had been scored before and were kept.")
    _show_bad_files(outcome.bad_files)
    out.print(f"scores  {nearby(outcome.target.name)}\nreport  {nearby(report_of(outcome.target))}")


def _show_bad_files(bad_files: list[BadFile]) -> None:
    if bad_files:
        out.print(f"Left out: {len(bad_files)} of the files", style="bold")
        for bad in bad_files:
            out.print(f"  {escape(str(bad.error))}")


def show_verification(found: Verification, *, as_json: bool) -> None:
    if as_json:
        _print_json({"ok": not found.problems} | asdict(found))
        return
    for line in found.problems:
        out.print(escape(f"WRONG  {line}"), style="bold red")
    for line in found.notes:
        out.print(escape(line))
    verdict = f"{len(found.problems)} problems" if found.problems else "All is well"
    gap = f", largest gap {found.largest_gap:.5f}" if found.rescored else ""
    out.print(f"{verdict}: {found.files:,} files, {found.rows:,} rows read, {found.rescored:,} rows scored again{gap}.")


def show_findings(findings: list[Finding], *, as_json: bool) -> None:
    """Print what `doctor` found, a line each, with the remedy below where something is to be done."""
    if as_json:
        print(json.dumps([vars(finding) for finding in findings]))
        return
    style = {"OK": "green", "WARN": "yellow", "FAIL": "bold red"}
    for finding in findings:
        head = Text.assemble((f"{finding.state:5}", style[finding.state]), f"{finding.part:9} {finding.message}")
        out.print(head)
        if finding.remedy:
            out.print(Text(f"     {'':9} {finding.remedy}"))


def show_bench(found: dict, *, as_json: bool) -> None:
    """Print the table for people, and the same as one JSON line."""
    if not as_json:
        ours = found["results"][0]
        table = Table(title=f"{found['pairs']:,} pairs, {found['tokens']:,} tokens: {found['input']}", title_justify="left")
        for name in ("", "setting", "seconds", "pairs/s", "ours is", "largest gap"):
            table.add_column(name, justify="left" if name in ("", "setting") else "right")
        for row in found["results"]:
            ratio = f"{row['seconds'] / ours['seconds']:.2f}x"
            figures = (f"{row['seconds']:.2f}", f"{row['pairs_per_second']:,.0f}", ratio, f"{row['gap']:.4f}")
            table.add_row(row["name"], row["setting"], *figures)
        out.print(table)
        out.print(
            f"{found['tokens_per_second']:,.0f} tokens/s, {found['share_of_matmul']:.0%} of the "
            f"{found['matmul_gflops']:,.0f} GFLOP/s that a bare matrix product reaches here"
        )
        if found["tokeniser"]:
            speeds = found["tokeniser"]
            ratios = [speeds[way] / speeds["tokenizers"] for way in ("cold", "warm")]
            out.print(
                f"tokeniser on {speeds['sentences']:,} sentences: {speeds['cold']:,.0f} a second cold, "
                f"{speeds['warm']:,.0f} warm, `tokenizers` {speeds['tokenizers']:,.0f} ({ratios[0]:.1f}x and "
                f"{ratios[1]:.1f}x), {speeds['differences']} with different ids"
            )
    print(json.dumps(found, default=str))


def read_report(location: Path) -> pl.DataFrame:
    """Read a report by the name of an output folder, a scored file, its input, or the report itself."""
    if location.is_dir():
        path = report_of(Target(location))
    elif is_report(location):
        path = location
    else:
        path = report_of(Target(location.parent, location))
        if not path.is_file() and location.is_file():
            path = report_of(choose_target(str(location), None))
    if not path.is_file():
        raise NothingToReadError(f"{location}: no report there ({path.name} is missing). Score something first.")
    try:
        report = pl.read_parquet(path, memory_map=False, glob=False)
    except PermissionError as error:
        raise storage_error(error, "reading", path) from None
    except (pl.exceptions.PolarsError, OSError) as error:
        raise BadDataError(f"{path}: not a readable report ({first_line(error)}).") from error
    if not set(SCHEMA) <= set(report.columns):
        raise BadDataError(f"{path}: not a report of ours (found: {', '.join(report.columns)}).")
    return report


def show_report(location: Path, *, as_json: bool) -> None:
    report = read_report(location)
    if as_json:
        _print_json(report.to_dicts())
    else:
        out.print(report_view(report))
