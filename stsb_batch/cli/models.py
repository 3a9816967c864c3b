"""The verbs of the model registry: `stsb-batch models ...`."""

from pathlib import Path
from typing import Annotated

import typer

from stsb_batch.cli.options import AsJson

models = typer.Typer(help="The model registry: versions, champion, rollback.", no_args_is_help=True)


def _home() -> Path:
    from stsb_batch.settings import load_settings

    return load_settings().home


@models.command("list", epilog="Example: stsb-batch models list")
def models_list(as_json: AsJson = False) -> None:
    """List all versions; the champion is marked."""
    from stsb_batch.cli.model_views import show_versions
    from stsb_batch.models.registry import champions, list_versions

    home = _home()
    show_versions(list_versions(home), champions(home)["stack"], as_json=as_json)


@models.command("show", epilog="Example: stsb-batch models show champion")
def models_show(
    reference: Annotated[str, typer.Argument(help="champion or name@number")] = "champion", as_json: AsJson = False
) -> None:
    """Show a version's card, metrics and history."""
    from stsb_batch.cli.model_views import show_version
    from stsb_batch.models.registry import champions, find_version, verified

    home = _home()
    version = find_version(home, reference)
    verified(version)
    show_version(version, champions(home)["log"], as_json=as_json)


@models.command("promote", epilog="Example: stsb-batch models promote sts@3 --reason 'new labels'")
def models_promote(
    reference: Annotated[str, typer.Argument(help="name@number")],
    reason: Annotated[str, typer.Option("--reason", help="kept in the log")] = "by hand",
) -> None:
    """Make a version that passed its gate the champion."""
    from stsb_batch.models.registry import find_version, promote

    home = _home()
    version = find_version(home, reference)
    promote(home, version, reason)
    typer.echo(f"champion is {version.reference}")


@models.command("rollback", epilog="Example: stsb-batch models rollback")
def models_rollback() -> None:
    """Make the previous champion the champion again."""
    from stsb_batch.models.registry import rollback

    typer.echo(f"champion is {rollback(_home()).reference}")


@models.command("gc", epilog="Example: stsb-batch models gc --keep 5 --yes")
def models_gc(
    keep: Annotated[int, typer.Option(min=1, help="newest versions of each name that stay")] = 5,
    yes: Annotated[bool, typer.Option("--yes", help="remove; without it the versions are only listed")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove old versions and leftovers of dead refreshes.

    Versions that have been champion stay, and so do the newest of each name.
    """
    from stsb_batch.cli.model_views import show_garbage
    from stsb_batch.models.cleanup import collect_garbage

    show_garbage(collect_garbage(_home(), keep=keep, remove=yes), removed=yes, as_json=as_json)
