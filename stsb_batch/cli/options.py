"""Options of verbs, made from the fields of requests; and those that verbs share beside them."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import MISSING
from functools import wraps
from typing import Annotated, Any

import typer

from stsb_batch.errors import UsageError
from stsb_batch.fields import Field, fields_of
from stsb_batch.requests import ScoreRequest

METAVARS: dict[Any, str] = {str: "TEXT", str | None: "TEXT", list[str] | None: "TEXT", int: "N", int | None: "N"}
METAVARS |= {float: "X", float | None: "X"}
FORMER = "former_"  # of the parameter for a field's earlier spelling
AsJson = Annotated[bool, typer.Option("--json", help="print JSON for machines")]


def takes(make: Callable[[dict[str, Any]], Any], specs: Mapping[str, Field]) -> Callable[[Callable], Callable]:
    """Give a verb the options of some fields; `make` turns their values into its first parameter."""

    def decorate(verb: Callable) -> Callable:
        own = list(inspect.signature(verb).parameters.values())[1:]

        @wraps(verb)
        def call(**given: Any) -> None:
            values = {name: _value(spec, given) for name, spec in specs.items()}
            verb(make(values), **{parameter.name: given[parameter.name] for parameter in own})

        parameters = [one for spec in specs.values() for one in _parameters(spec)]
        parameters += [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own]
        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        call.__annotations__ = {one.name: one.annotation for one in parameters}
        return call

    return decorate


def score_request(values: Mapping[str, Any]) -> ScoreRequest:
    """Make the request of a verb that scores something else than a data set: a pair, labels, a benchmark."""
    return ScoreRequest(**{"location": "", **values})


def pick(*names: str) -> dict[str, Field]:
    """Return some fields of a scoring request."""
    return {name: fields_of(ScoreRequest)[name] for name in names}


def _parameters(spec: Field) -> list[inspect.Parameter]:
    """Return what typer reads for a field: one parameter, or one for each of its switches."""
    option = spec.option
    if option.switches:
        switches = option.switches.items()
        return [_parameter(name, bool, False, typer.Option(f"--{name}", help=text)) for name, text in switches]
    default = inspect.Parameter.empty if spec.default is MISSING else spec.default
    if option.argument:
        return [_parameter(spec.name, spec.kind, default, typer.Argument(metavar=option.metavar, help=option.help))]
    kind = list[str] | None if spec.kind == tuple[str, ...] | None else spec.kind
    metavar, (low, high) = option.metavar or "|".join(spec.choices) or METAVARS.get(kind), (option.minimum, option.maximum)
    given = typer.Option(*spec.flags, help=option.help, metavar=metavar, min=low, max=high)
    former = typer.Option(option.former, hidden=True)
    return [
        _parameter(spec.name, kind, default, given),
        *([_parameter(FORMER + spec.name, kind, None, former)] if option.former else []),
    ]


def _parameter(name: str, kind: Any, default: Any, given: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, given])


def _value(spec: Field, given: Mapping[str, Any]) -> Any:
    """Return the value of a field; raises `UsageError` for two switches that contradict each other."""
    if not spec.option.switches:
        value = given[spec.name] if given.get(FORMER + spec.name) is None else given[FORMER + spec.name]
        return tuple(value) if isinstance(value, list) else value
    chosen = [name for name in spec.option.switches if given[name]]
    if len(chosen) > 1:
        raise UsageError(f"--{chosen[0]} and --{chosen[1]} contradict each other. Give one of them.")
    return chosen[0] if chosen else spec.default
