"""What can be asked for: scoring, refreshing, a nightly run. Each field stands here once, with default, bounds and help.

The command line (`cli.options`), the Prefect forms (`flows.parameters`), the Python API and the reference pages are made
from these classes. Imports nothing heavy: `--help` needs them all.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from stsb_batch.errors import UsageError
from stsb_batch.fields import Field, Option, check, fields_of

if TYPE_CHECKING:
    from stsb_batch.pairs.schema import Columns
    from stsb_batch.settings import Settings


def _settings() -> "Settings":
    from stsb_batch.settings import load_settings

    return load_settings()


class _Request:
    """Checks and properties that all requests share."""

    def __post_init__(self) -> None:
        for spec in fields_of(type(self)).values():
            check(spec, getattr(self, spec.name))


class _WithColumns(_Request):
    left: str
    right: str
    label: str | None
    label_scale: str | None

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.columns  # a wrong scale is refused at once

    @cached_property
    def columns(self) -> "Columns":
        """The columns that are read and written."""
        from stsb_batch.pairs.label_scale import parse_scale
        from stsb_batch.pairs.schema import Columns

        scale = parse_scale(self.label_scale)
        keep, score = getattr(self, "keep", None), getattr(self, "score_column", "score")
        return Columns(self.left, self.right, self.label, tuple(keep) if keep else None, score, scale)


Left = Annotated[str, Option("column with the first text")]
Right = Annotated[str, Option("column with the second text")]
Label = Annotated[str | None, Option("column with the label (default: a numeric column 'label', if there is one)")]
LabelScale = Annotated[
    str | None, Option("scale of the labels, mapped to 0 to 5 (default: they are 0 to 5)", metavar="LOW,HIGH")
]
Model = Annotated[str, Option("champion, name@number, a folder, or a hub id@revision")]


@dataclass(frozen=True)
class ScoreRequest(_WithColumns):
    """A scoring run. `settings` are the environment's, with this request's options on top; `requested_at` is Unix time."""

    location: Annotated[str, Option("a Parquet file, a folder, or a quoted glob", metavar="IN", argument=True)]
    output: Annotated[
        str | None, Option("file or folder to write (default: beside the input, named .scored)", ("--output", "-o"))
    ] = None
    left: Left = "sentence1"
    right: Right = "sentence2"
    label: Label = None
    label_scale: LabelScale = None
    keep: Annotated[tuple[str, ...] | None, Option("column to pass through; repeat it for more (default: all)")] = None
    score_column: Annotated[str, Option("name of the new column")] = "score"
    model: Model = "champion"
    engine: Annotated[
        Literal["auto", "torch", "openvino"] | None, Option("what runs the model (default: STSB_BATCH_ENGINE, else auto)")
    ] = None
    precision: Annotated[
        Literal["auto", "fp32", "bf16", "fp16", "int8"] | None,
        Option("precision of the model (default: STSB_BATCH_PRECISION, else auto)"),
    ] = None
    max_tokens: Annotated[int | None, Option("tokens in one batch (default: 4096 on a CPU, 65536 on a GPU)", minimum=16)] = (
        None
    )
    max_length: Annotated[
        int | None, Option("tokens of one pair; longer pairs are cut (default: 512, or the model's limit)", minimum=8)
    ] = None
    on_bad_row: Annotated[
        Literal["keep", "quarantine", "fail"],
        Option("rows that cannot be scored: keep them with a null score, move them to a side file, or fail"),
    ] = "keep"
    on_bad_file: Annotated[
        Literal["quarantine", "fail"], Option("files of a folder that cannot be read: leave them out, or fail")
    ] = "quarantine"
    max_bad_rows: Annotated[
        float,
        Option("fail above this share of rows without a score; one row is always allowed unless it is 0", (), None, 0, 1),
    ] = 0.05
    max_bad_files: Annotated[
        float, Option("fail above this share of bad files; one is always allowed unless it is 0", (), None, 0, 1)
    ] = 0.01
    warn_bad_rows: Annotated[
        float, Option("warn (exit code 10) above this share of rows without a score", (), None, 0, 1)
    ] = 0.01
    strictness: Annotated[
        Literal["normal", "lenient", "strict"],
        Option(
            "what warnings about bad rows and files do: change the exit code (normal), nothing (lenient), or fail (strict)",
            switches={"lenient": "end with 0 in spite of warnings (10, 11)", "strict": "fail instead of warning (10, 11)"},
        ),
    ] = "normal"
    parity: Annotated[
        bool, Option("score a sample again in fp32 torch, and stop if it differs", ("--parity/--no-parity",))
    ] = True
    overwrite: Annotated[bool, Option("replace output of another plan (other input, model or options)")] = False
    settings: "Settings" = field(default_factory=_settings)
    requested_at: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.score_column:
            raise UsageError("--score-column is an empty string. Name the new column.")
        own = {name: getattr(self, name) for name in ("engine", "precision", "max_tokens", "max_length")}
        changes = {name: value for name, value in own.items() if value is not None}
        object.__setattr__(self, "settings", self.settings.model_copy(update=changes))


@dataclass(frozen=True)
class RefreshRequest(_WithColumns):
    """A refresh: what to train from, how, under which name, and what the result has to pass before it is promoted."""

    labels: Annotated[str, Option("labelled Parquet, a folder with splits, or glue/stsb")] = "glue/stsb"
    base_model: Annotated[str, Option("model to start from: a hub id, a folder, or minilm (works offline)")] = (
        "distilbert-base-uncased"
    )
    recipe: Annotated[
        Literal["reference", "best", "silver"],
        Option("recipe of the fine-tune; best and silver need a sentence encoder, silver is for few labels"),
    ] = "reference"
    name: Annotated[str, Option("name of the model in the registry")] = "sts"
    left: Left = "sentence1"
    right: Right = "sentence2"
    label: Label = None
    label_scale: LabelScale = None
    unlabelled: Annotated[
        str | None, Option("Parquet of your own pairs, whose texts the silver stage also trains on (best, silver)")
    ] = None
    floor: Annotated[float, Option("do not promote below this Pearson r on the test pairs", (), None, -1, 1)] = 0.6
    slice_column: Annotated[
        str | None,
        Option("column of the labels; each of its values must pass (default: thirds by text length)", ("--slice",)),
    ] = None
    churn_sample: Annotated[
        str | None, Option("Parquet of real pairs, to compare the scores of champion and challenger")
    ] = None
    thresholds: Annotated[str, Option("scores at which your matches are decided, separated by commas")] = "2.5"
    max_churn: Annotated[
        float | None,
        Option("do not promote above this share of sample pairs that cross a threshold", (), None, 0, 1),
    ] = None
    settings: "Settings" = field(default_factory=_settings)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_churn is not None and self.churn_sample is None:
            raise UsageError("--max-churn needs --churn-sample: name Parquet of last night's pairs.")
        _ = self.decision_thresholds

    @property
    def decision_thresholds(self) -> tuple[float, ...]:
        """The scores at which matches are decided."""
        try:
            return tuple(float(part) for part in self.thresholds.split(","))
        except ValueError:
            raise UsageError(
                f"--thresholds {self.thresholds}: not numbers. Separate them with commas, for example 2.5,4."
            ) from None


@dataclass(frozen=True)
class NightlyRequest(_Request):
    """A nightly run: a scoring request whose places may hold `{night}`, a refresh if there are `labels`, and when.

    `location`, `output` and `labels` are those of `score` and `refresh`, as a night asks for them.
    """

    location: Annotated[str, Option("Parquet to score; {night} in it becomes the run date", metavar="IN", argument=True)]
    output: Annotated[
        str,
        Option("folder for the scores; {night} in it becomes the run date, else they go to OUT/<date>", ("--output", "-o")),
    ]
    night: Annotated[str | None, Option("run date, YYYY-MM-DD (default: the day of the scheduled start)")] = None
    timezone: Annotated[str, Option("time zone of run dates, schedule and deadline, for example Europe/Berlin")] = "UTC"
    labels: Annotated[str | None, Option("refresh the model from these labels when they are new (default: never)")] = None
    refresh_days: Annotated[
        int, Option("days between refreshes; after drift the next night refreshes at once", minimum=0)
    ] = 7
    refresh_hours: Annotated[
        float, Option("stop a refresh after this many hours, and score with the champion", minimum=0.0001)
    ] = 4
    approval: Annotated[
        Literal["auto", "manual"], Option("promote a model that passes its gate: auto, or only after manual approval")
    ] = "auto"
    score_hours: Annotated[
        float, Option("fail a night that is not scored after this many hours; the next run continues", minimum=0.0001)
    ] = 10
    deadline: Annotated[
        str | None,
        Option("time of day, HH:MM, by which the scores are needed; an alert if they will be late", former="--done-by"),
    ] = None
    score: ScoreRequest = field(kw_only=True)
    refresh: RefreshRequest = field(kw_only=True)


# Fields of the other two requests that a nightly run does not take over, and why.
NOT_NIGHTLY = {
    "model": "a night is scored by the champion, a backfilled one by the model of its earlier scores",
}
Request = TypeVar("Request", bound=_Request)


def nightly_fields() -> dict[str, Field]:
    """Return the fields of a nightly run: its own, then those of scoring and refresh that it does not have itself."""
    found = fields_of(NightlyRequest)
    for request in (ScoreRequest, RefreshRequest):
        found |= {name: spec for name, spec in fields_of(request).items() if name not in {*found, *NOT_NIGHTLY}}
    return found


def nightly_request(options: Mapping[str, Any]) -> NightlyRequest:
    """Make the request of a nightly run from its options by field name; checks all of them."""
    given = {name: options[name] for name in nightly_fields() if name in options}

    def of(request: type[Request]) -> Request:
        known = {name: value for name, value in given.items() if name in fields_of(request)}
        return request(**{name: value for name, value in known.items() if (name, value) != ("labels", None)})

    own = {name: value for name, value in given.items() if name in fields_of(NightlyRequest)}
    return NightlyRequest(**own, score=of(ScoreRequest), refresh=of(RefreshRequest))


def options_of(request: _Request) -> dict[str, Any]:
    """Return a request's options by field name, as JSON has them: what `nightly_request`, flows and forms take."""
    found: dict[str, Any] = {}
    parts = [request.refresh, request.score] if isinstance(request, NightlyRequest) else []
    for part in (*parts, request):
        found |= {name: getattr(part, name) for name in fields_of(type(part))}
    if isinstance(request, NightlyRequest):
        found = {name: value for name, value in found.items() if name not in NOT_NIGHTLY}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}
