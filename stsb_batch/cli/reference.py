"""Write the reference pages of the command line and the settings: `python -m stsb_batch.cli.reference`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main
from typer.core import TyperArgument, TyperCommand, TyperGroup

from stsb_batch.cli.main import app
from stsb_batch.errors import EXIT_CODES
from stsb_batch.settings import Settings

FOLDER = Path(__file__).parents[2] / "deploy/docs"
HEAD = "Written by `python -m stsb_batch.cli.reference`; a test keeps it true."


def pages() -> dict[str, str]:
    """Return the pages by file name."""
    return {"cli.md": "\n".join(_cli()) + "\n", "settings.md": "\n".join(_settings()) + "\n"}


def _cli() -> Iterator[str]:
    yield from ("# Command line", "", HEAD, "")
    yield "Every verb takes `--help`. `stsb-batch --install-completion` adds completion to your shell."
    yield "`python -m stsb_batch` is the same command."
    for name, command in _commands(typer.main.get_command(app)):
        parameters = [one for one in command.params if one.name != "help" and not getattr(one, "hidden", False)]
        arguments = [one.metavar or str(one.name).upper() for one in parameters if isinstance(one, TyperArgument)]
        yield from ("", f"## {name}", "", " ".join((command.help or "").split()), "")
        yield f"`stsb-batch {' '.join([name, *arguments])} [OPTIONS]`"
        yield from ("", "| option | default | meaning |", "|---|---|---|")
        for one in parameters:
            flags = one.metavar or str(one.name).upper() if isinstance(one, TyperArgument) else ", ".join(_flags(one))
            yield f"| `{_cell(flags)}` | {_default(one)} | {_cell(getattr(one, 'help', '') or '')} |"
        if command.epilog:
            yield from ("", f"`{command.epilog.removeprefix('Example: ')}`")
    yield from ("", "## Exit codes", "", "| code | meaning |", "|---|---|")
    yield from (f"| {code} | {_cell(meaning)} |" for code, meaning in EXIT_CODES.items())


def _commands(group: Any, prefix: str = "") -> Iterator[tuple[str, TyperCommand]]:
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from _commands(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


def _flags(option: Any) -> list[str]:
    flags = [*option.opts, *option.secondary_opts]
    return flags if option.is_flag else [*flags[:-1], f"{flags[-1]} {option.metavar or 'VALUE'}"]


def _default(one: Any) -> str:
    if one.required:
        return "required"
    return "" if one.default in (None, False, ()) else f"`{one.default}`"


def _settings() -> Iterator[str]:
    yield from ("# Settings", "", HEAD, "")
    yield "Each is an environment variable. An option of the same name on the command line or in a form wins over it."
    yield from ("", "| variable | default | meaning |", "|---|---|---|")
    for name, field in Settings.model_fields.items():
        default = "unset" if field.default is None else str(field.default)
        yield f"| `STSB_BATCH_{name.upper()}` | `{default}` | {_cell(field.description or '')} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    for file, content in pages().items():
        (FOLDER / file).write_text(content)
