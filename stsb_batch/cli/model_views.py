"""What the verbs about models print: metrics and calibration, the gate's verdict, churn, versions."""

import json
from dataclasses import asdict

from rich.markup import escape
from rich.table import Table

from stsb_batch.cli.output import out
from stsb_batch.cli.views import nearby
from stsb_batch.models.cleanup import Garbage
from stsb_batch.models.decisions import decisions
from stsb_batch.models.registry import Version
from stsb_batch.pairs.label_scale import card_scale
from stsb_batch.refresh.evaluate import Evaluation
from stsb_batch.refresh.gate import GateDecision
from stsb_batch.refresh.job import RefreshOutcome
from stsb_batch.refresh.sample_churn import SampleChurn
from stsb_batch.report.calibration import Conformal
from stsb_batch.report.table import metrics_of
from stsb_batch.report.text import metrics_table


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=1, default=str))


def show_evaluation(found: Evaluation, *, as_json: bool) -> None:
    report = found.report
    if as_json:
        _print_json(report.drop("run_id", "run_at").to_dicts())
        return
    out.print(metrics_table(report))
    table = Table(title=f"Reliability of {escape(found.main_part)}", title_justify="left", title_style="bold")
    for name in ("score", "pairs", "mean score", "mean label", "difference"):
        table.add_column(name, justify="right")
    for band in found.bands:
        gap = f"{band.mean_score - band.mean_label:+.2f}"
        table.add_row(band.name, f"{band.pairs:,}", f"{band.mean_score:.2f}", f"{band.mean_label:.2f}", gap)
    out.print(table)
    gaps = found.symmetry
    out.print(
        f"order: score(a, b) and score(b, a) differ by {gaps.mean_gap:.3f} on average, 95 % by at most {gaps.p95_gap:.3f}, "
        f"all by at most {gaps.max_gap:.3f} ({gaps.pairs:,} pairs of {escape(found.main_part)})",
    )
    out.print(f"half-width: {found.conformal.summary}")
    out.print(f"{escape(report['model'][0])} ({report['model_digest'][0][:12]})")


def show_gate(decision: GateDecision) -> None:
    for check in decision.checks:
        out.print(f"  {escape(str(check))}", style="green" if check.passed else "red")
    for note in decision.notes:
        out.print(f"  note: {escape(note)}", style="dim")


def show_refresh(outcome: RefreshOutcome, stack: list[str] | None = None, *, texts: bool = False, as_json: bool) -> None:
    """Print a refresh's outcome; `stack` are the champions that stand after it, if they are to be shown."""
    version, decision = outcome.version, outcome.decision
    champion = stack[-1] if stack else None
    if as_json:
        facts = {"model": version.reference, "digest": version.digest, "passed": decision.passed, "trained": outcome.trained}
        facts |= {"champion": champion, "checks": [asdict(check) for check in decision.checks], "notes": decision.notes}
        facts |= {"metrics": metrics_of(outcome.metrics), "conformal": version.card["conformal"]}
        _print_json(facts | {"churn": outcome.churn.to_card() if outcome.churn else None})
        return
    out.print(metrics_table(outcome.metrics))
    if not outcome.trained:
        out.print(f"{version.reference} is from the same labels, base model and recipe as before. Nothing was trained.")
    _show_labels(version.card["labels"])
    if outcome.churn:
        show_churn(outcome.churn, texts=texts)
    out.print(f"half-width: {Conformal(**version.card['conformal']).summary}")
    out.print(f"gate: {'passed' if decision.passed else 'refused, the champion stays'}")
    show_gate(decision)
    out.print(f"model   {version.reference} ({version.digest[:12]})")
    if stack is not None and decision.passed and champion != version.reference:
        command = f"`stsb-batch models promote {version.reference}`"
        out.print(f"champion is {champion or 'still none'}; {command} makes this one champion")


def _show_labels(labels: dict) -> None:
    """Print what the labels' own faults were, where they had any, and their scale where it is another."""
    if "mapped" in card_scale(labels):
        out.print(f"labels: {card_scale(labels)}")
    for fault, rows in labels.get("left_out", {}).items():
        out.print(f"labels: {rows} rows left out, {escape(fault)}")
    for key, words in (
        ("pairs_with_different_labels", "pairs are there again with another label; all were kept"),
        ("test_pairs_in_train_or_val", "test pairs are also in train or val"),
    ):
        if labels.get(key):
            out.print(f"labels: {labels[key]} {words}")


def show_churn(found: SampleChurn, *, texts: bool) -> None:
    """Print the worst movers by file and row; their texts only on request. The figures stand among the gate's checks."""
    title = f"What would change: the worst of {found.churn.pairs:,} pairs of {escape(found.sample.source)}"
    out.print(title, style="bold")
    table = Table()
    for name in ("file", "row", "champion", "challenger", "move"):
        table.add_column(name, justify="left" if name == "file" else "right")
    for mover in found.movers():
        move = mover["challenger"] - mover["champion"]
        figures = (f"{mover['champion']:.2f}", f"{mover['challenger']:.2f}", f"{move:+.2f}")
        table.add_row(escape(mover["file"]), f"{mover['row']:,}", *figures)
    out.print(table)
    for worst in found.churn.movers if texts else ():
        left, right = found.texts(worst.position)
        out.print(escape(f"  {worst.champion:.2f} -> {worst.challenger:.2f}  {left} | {right}"))


def show_versions(versions: list[Version], stack: list[str], *, as_json: bool) -> None:
    if as_json:
        _print_json([version.card | {"champion": stack[-1:] == [version.reference]} for version in versions])
        return
    if not versions:
        out.print("No models yet. Train one with `stsb-batch refresh`, or see the whole chain with `stsb-batch demo`.")
        return
    table = Table(box=None, pad_edge=False)
    for name in ("", "model", "made", "recipe", "base", "gate", "Pearson", "digest"):
        table.add_column(name, no_wrap=name != "base")
    for version in versions:
        card = version.card
        pearson = card["gate"]["figures"].get("pearson")
        table.add_row(
            "champion" if stack[-1:] == [version.reference] else "",
            version.reference,
            card["created_at"][:10],
            card["recipe"],
            escape(card["base_model"]),
            "passed" if card["gate"]["passed"] else "refused",
            "-" if pearson is None else f"{pearson:.4f}",
            version.digest[:8],
        )
    out.print(table)


def show_version(version: Version, log: list[dict], *, as_json: bool) -> None:
    card, metrics, decision = version.card, version.metrics(), GateDecision.from_card(version.card["gate"])
    moves = [move for move in log if move["model"] == version.reference]
    decided = decisions(version)
    if as_json:
        facts = {"gate": asdict(decision), "metrics": metrics_of(metrics), "history": moves, "decisions": decided}
        _print_json(version.card | facts)
        return
    lines = {
        "model": f"{version.reference} ({version.digest})",
        "made": card["created_at"],
        "recipe": f"{card['recipe']} on {card['base_model']}",
        "parent": card["parent"] or "none",
        "labels": f"{card['labels']['source']} ({card['labels']['sha256'][:12]}), "
        + ", ".join(f"{name} {rows:,}" for name, rows in card["labels"]["rows"].items()),
        "label scale": card_scale(card["labels"]),
        "leaked test pairs": str(card["labels"]["test_pairs_in_train_or_val"]),
        "folder": nearby(version.path),
    }
    grid = Table.grid(padding=(0, 2))
    for name, value in lines.items():
        grid.add_row(name, escape(value))
    out.print(grid)
    _show_labels(card["labels"])
    out.print(metrics_table(metrics))
    if "conformal" in card:
        out.print(f"half-width: {Conformal(**card['conformal']).summary}")
    out.print("gate: " + ("passed" if decision.passed else "refused"))
    show_gate(decision)
    out.print("history" if moves else "history: it has never been champion")
    for move in moves:
        out.print(f"  {move['at']}  {escape(move['reason'])}")
    for entry in decided:
        out.print(f"  {entry['at']}  {escape(entry['decision'])} by {escape(entry['by'])}: {escape(entry['reason'])}")


def show_garbage(found: Garbage, *, removed: bool, as_json: bool) -> None:
    names = [version.reference for version in found.versions]
    if as_json:
        _print_json({"versions": names, "bytes": found.size_bytes, "removed": removed})
    elif not names:
        out.print("Nothing to remove: all versions are among the newest, or have been champion.")
    else:
        size = f"{found.size_bytes / 1e6:,.0f} MB"
        out.print(f"{'Removed' if removed else 'Would remove'} {', '.join(names)} ({size}).")
        if not removed:
            out.print("Nothing was removed. Do it with `stsb-batch models gc --yes`, with the same --keep.")
