"""The verbs of the registry (`stsb-batch models ...`), and what all verbs share."""

from typing import Annotated, Literal

import typer

from stsb_batch.errors import UsageError

models = typer.Typer(help="The registry: versions, champion, rollback.", no_args_is_help=True)

Model = Annotated[str, typer.Option("--model", help="champion, name@number, a folder, or a hub id@revision")]
Engine = Annotated[str | None, typer.Option("--engine", help="auto, torch or openvino")]
Precision = Annotated[str | None, typer.Option("--precision", help="auto, fp32, bf16, fp16 or int8")]
Left = Annotated[str, typer.Option("--left", help="column with the first text")]
Right = Annotated[str, typer.Option("--right", help="column with the second text")]
Label = Annotated[str | None, typer.Option("--label", help="column with the label, 0 to 5")]
LabelScale = Annotated[
    str | None, typer.Option("--label-scale", metavar="LOW,HIGH", help="scale of the labels, mapped on 0,5")
]
Pairs = Annotated[str, typer.Argument(metavar="IN", help="Parquet to score; {night} in it becomes the date")]
Scores = Annotated[
    str, typer.Option("--output", "-o", help="folder of a night; {night} in it becomes the date, else OUT/<date>")
]
NightLabels = Annotated[str | None, typer.Option("--labels", help="refresh when these labels are new")]
BaseModel = Annotated[str, typer.Option("--base-model", help="base model of a refresh: hub id, folder, or minilm (offline)")]
Recipe = Annotated[
    Literal["reference", "best", "silver"], typer.Option("--recipe", help="recipe of a refresh; silver is for few labels")
]
RefreshDays = Annotated[int, typer.Option("--refresh-days", min=0, help="days between refreshes; at once after drift")]
Approval = Annotated[
    Literal["auto", "manual"], typer.Option("--approval", help="manual: somebody decides about a new champion")
]
Timezone = Annotated[str, typer.Option("--timezone", help="whose calendar the nights follow, like Europe/Berlin")]
DoneBy = Annotated[str | None, typer.Option("--done-by", help="HH:MM when somebody waits for the scores")]
MaxBadRows = Annotated[
    float,
    typer.Option(
        "--max-bad-rows", min=0, max=1, help="share of rows without a score above which the run fails; one may, unless 0"
    ),
]
MaxBadFiles = Annotated[
    float,
    typer.Option("--max-bad-files", min=0, max=1, help="share of bad files above which the run fails; one may, unless 0"),
]
WarnBadRows = Annotated[
    float,
    typer.Option("--warn-bad-rows", min=0, max=1, help="share of rows without a score above which the exit code is 10"),
]
Lenient = Annotated[bool, typer.Option("--lenient", help="end with 0 where the exit code would be 10 or 11")]
Strict = Annotated[bool, typer.Option("--strict", help="fail with 65 where the exit code would be 10 or 11")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON for machines")]


def strictness_of(lenient: bool, strict: bool) -> str:
    """Return what is asked of many bad rows and bad files; raises `UsageError` for both at once."""
    if lenient and strict:
        raise UsageError("--lenient and --strict contradict each other. Give one of them.")
    return "lenient" if lenient else "strict" if strict else "normal"


def settings_with(**changes):
    """Load the settings and put the options that were given on top."""
    from stsb_batch.settings import load_settings

    return load_settings().model_copy(update={name: value for name, value in changes.items() if value is not None})


@models.command("list", epilog="Example: stsb-batch models list")
def models_list(as_json: AsJson = False) -> None:
    """List all versions; the champion is marked."""
    from stsb_batch.cli.model_views import show_versions
    from stsb_batch.models.registry import champions, list_versions

    home = settings_with().home
    show_versions(list_versions(home), champions(home)["stack"], as_json=as_json)


@models.command("show", epilog="Example: stsb-batch models show champion")
def models_show(
    reference: Annotated[str, typer.Argument(help="champion or name@number")] = "champion", as_json: AsJson = False
) -> None:
    """Show a version's card, metrics and history."""
    from stsb_batch.cli.model_views import show_version
    from stsb_batch.models.registry import champions, find_version, verified

    home = settings_with().home
    version = find_version(home, reference)
    verified(version)
    show_version(version, champions(home)["log"], as_json=as_json)


@models.command("promote", epilog="Example: stsb-batch models promote sts@3 --reason 'new labels'")
def models_promote(
    reference: str, reason: Annotated[str, typer.Option("--reason", help="kept in the log")] = "by hand"
) -> None:
    """Make a version that passed its gate the champion."""
    from stsb_batch.models.registry import find_version, promote

    home = settings_with().home
    version = find_version(home, reference)
    promote(home, version, reason)
    typer.echo(f"champion is {version.reference}")


@models.command("rollback", epilog="Example: stsb-batch models rollback")
def models_rollback() -> None:
    """Make the champion before the present one champion again."""
    from stsb_batch.models.registry import rollback

    typer.echo(f"champion is {rollback(settings_with().home).reference}")


@models.command("gc", epilog="Example: stsb-batch models gc --keep 5 --yes")
def models_gc(
    keep: Annotated[int, typer.Option(min=1, help="newest versions of each name that stay")] = 5,
    yes: Annotated[bool, typer.Option("--yes", help="remove; without it the versions are only listed")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove old versions that never became champion, and what dead refreshes have left."""
    from stsb_batch.cli.model_views import show_garbage
    from stsb_batch.models.cleanup import collect_garbage

    show_garbage(collect_garbage(settings_with().home, keep=keep, remove=yes), removed=yes, as_json=as_json)
