"""Parameters of the flows as their forms show them, made from the fields of requests."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass
from functools import wraps
from typing import Annotated, Any

from prefect.states import State
from pydantic import Field as Bounds

from stsb_batch.fields import Field


@dataclass(frozen=True)
class Help:
    """What a form says below a parameter. Prefect overrides a `Field`'s own description, but leaves this alone."""

    text: str

    def __get_pydantic_json_schema__(self, core_schema: Any, handler: Callable[[Any], dict]) -> dict:
        return handler(core_schema) | {"description": self.text}


Passed = Annotated[str | None, Help("name@number; empty: the newest that passed its gate")]
By = Annotated[str, Bounds(min_length=1), Help("Your name, for the log")]
Reason = Annotated[str, Bounds(min_length=1), Help("Why, for the log")]


def takes(
    specs: Mapping[str, Field], **more: tuple[Any, Any]
) -> Callable[[Callable[[dict[str, Any]], State]], Callable[..., State]]:
    """Give a flow a parameter for each field, and `more` (annotation, default); its function gets their values by name."""

    def decorate(function: Callable[[dict[str, Any]], State]) -> Callable[..., State]:
        parameters = [_parameter(name, _annotation(spec), spec.default) for name, spec in specs.items()]
        parameters += [_parameter(name, annotation, default) for name, (annotation, default) in more.items()]
        signature = inspect.Signature(parameters, return_annotation=State)

        @wraps(function)
        def call(*values: Any, **named: Any) -> State:
            given = signature.bind(*values, **named)
            given.apply_defaults()
            return function(dict(given.arguments))

        del call.__wrapped__
        call.__signature__ = signature  # type: ignore[attr-defined]
        call.__annotations__ = {one.name: one.annotation for one in parameters} | {"return": State}
        return call

    return decorate


def _annotation(spec: Field) -> Any:
    text, bounds = spec.option.help, Bounds(ge=spec.option.minimum, le=spec.option.maximum)
    kind = list[str] | None if spec.kind == tuple[str, ...] | None else spec.kind
    return Annotated[kind, bounds, Help(text[0].upper() + text[1:])]


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    given = inspect.Parameter.empty if default is MISSING else default
    return inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=given, annotation=annotation)
