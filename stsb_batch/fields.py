"""Fields of requests: what the command line, the forms and the reference pages need to know of each. Knows no request."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args, get_origin

from stsb_batch.errors import UsageError, escape_control


@dataclass(frozen=True)
class Option:
    """How a field is asked for: its help text, its bounds, and its name on the command line where that is another one.

    `flags` replaces `--field-name`. With `switches` each of its values has a flag of its own, with a help text. An
    `argument` has no flag. `former` is an earlier spelling that is still accepted, and not shown.
    """

    help: str
    flags: tuple[str, ...] = ()
    metavar: str | None = None
    minimum: float | None = None
    maximum: float | None = None
    argument: bool = False
    former: str | None = None
    switches: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Field:
    """A field of a request, as the command line, the forms and the pages need it. `default` is MISSING if required."""

    name: str
    kind: Any
    default: Any
    option: Option

    @property
    def flags(self) -> tuple[str, ...]:
        return self.option.flags or (f"--{self.name.replace('_', '-')}",)

    @property
    def choices(self) -> tuple[str, ...]:
        kinds = (self.kind, *get_args(self.kind))
        return next((get_args(kind) for kind in kinds if get_origin(kind) is Literal), ())


def fields_of(request: type) -> dict[str, Field]:
    """Return the fields of a request's dataclass that are annotated with an `Option`, by name."""
    found = {}
    for each in fields(request):
        marks = getattr(each.type, "__metadata__", ())
        if marks and isinstance(marks[0], Option):
            found[each.name] = Field(each.name, get_args(each.type)[0], each.default, marks[0])
    return found


def check(spec: Field, value: Any) -> None:
    """Raise `UsageError` for a value that is none of a field's choices, or no number within its bounds."""
    option, flag = spec.option, spec.name if spec.option.switches else spec.flags[0]
    if value is None and spec.default is None:
        return
    if spec.choices and value not in spec.choices:
        raise UsageError(f"{flag} takes {', '.join(spec.choices)}, not '{escape_control(value)}'.")
    if option.minimum is None:
        return
    high = float("inf") if option.maximum is None else option.maximum
    if not isinstance(value, int | float) or not option.minimum <= value <= high:
        bounds = f"at least {option.minimum:g}" if option.maximum is None else f"{option.minimum:g} to {option.maximum:g}"
        raise UsageError(f"{flag} takes {bounds}, not {escape_control(value)}.")
