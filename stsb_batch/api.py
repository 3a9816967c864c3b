"""The public Python functions: the verbs of the command line as calls, and a model held open for texts in memory.

Each function builds the request that its verb builds and calls what its verb calls. Nothing is printed.
"""

import contextlib
import difflib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from stsb_batch.errors import UsageError
from stsb_batch.fields import fields_of
from stsb_batch.inference.engines import choose_engine
from stsb_batch.inference.pipeline import PairScorer, PreparedPairs
from stsb_batch.inference.scorer import open_scorer
from stsb_batch.models.registry import resolve_model
from stsb_batch.pairs.schema import STATUSES, is_text
from stsb_batch.pairs.source import WINDOW_ROWS
from stsb_batch.refresh.evaluate import Evaluation, evaluate_labels, save_pictures
from stsb_batch.refresh.job import RefreshOutcome
from stsb_batch.refresh.job import refresh as run_refresh
from stsb_batch.requests import RefreshRequest, ScoreRequest
from stsb_batch.scoring.finish import ScoreOutcome
from stsb_batch.scoring.job import score_dataset
from stsb_batch.scoring.verify import Verification, verify_output
from stsb_batch.scoring.verify_home import is_home, verify_home
from stsb_batch.settings import Settings, load_settings

Request = TypeVar("Request", ScoreRequest, RefreshRequest)
Window = tuple[tuple[int, PreparedPairs], PreparedPairs]  # key: position of the first row, and the pairs themselves
Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True, eq=False)
class Scores:
    """The result for each pair, in input order.

    `scores` (pairs,) float32, NaN where there is none · `statuses` (pairs,) str, for example OK or NULL_INPUT.
    """

    scores: np.ndarray
    statuses: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)


class Scorer:
    """A model held open, which scores texts in memory with the code of a scoring run. Close it, or use it in a `with`."""

    def __init__(self, scorer: PairScorer, *, model: str, digest: str, window_rows: int = WINDOW_ROWS) -> None:
        self.model, self.digest, self._window_rows = model, digest, window_rows
        self._scorer: PairScorer | None = scorer
        self._lock = Lock()  # one thread at a time takes scores from a PairScorer

    @classmethod
    def open(
        cls,
        model: str = "champion",
        *,
        engine: str | None = None,
        precision: str | None = None,
        max_tokens: int | None = None,
        max_length: int | None = None,
        home: Path | str | None = None,
        parity: bool = True,
    ) -> "Scorer":
        """Open a model: champion, name@number, a folder or a hub id.

        Options that are None come from the settings (`STSB_BATCH_*`). With `parity`, a sample of each window of pairs is
        scored again in fp32, and `score` raises `ModelIntegrityError` where the engine is beyond its tolerance.
        """
        settings = load_settings()
        if home is not None:
            settings = settings.model_copy(update={"home": Path(home).expanduser().resolve()})
        sized = {"engine": engine, "precision": precision, "max_tokens": max_tokens, "max_length": max_length}
        settings = ScoreRequest("", settings=settings, **sized).settings  # type: ignore[arg-type]  # checked there
        checkpoint = resolve_model(settings.home, model, timeout=settings.hub_timeout)
        scorer = open_scorer(
            checkpoint,
            choose_engine(settings.engine, settings.precision),
            max_length=min(settings.max_length, checkpoint.max_length),
            max_tokens=settings.max_tokens,
            fixed_shapes=settings.fixed_shapes,
            cache=settings.home / "cache",
            parity=parity,
        )
        return cls(scorer, model=checkpoint.name, digest=checkpoint.digest)

    def score(self, left: Any, right: Any) -> Scores:
        """Score pairs of texts: two lists, NumPy arrays, Arrow arrays, Polars series or pandas series of one length.

        None and NaN are missing texts: their pair has no score and the status NULL_INPUT. Raises `UsageError` for lengths
        that differ and for cells that are not text.
        """
        columns = _text_column(left, "left"), _text_column(right, "right")
        pairs = len(columns[0])
        if len(columns[1]) != pairs:
            raise UsageError(f"left has {pairs:,} texts and right {len(columns[1]):,}. Give both the same length.")
        scores, codes = np.empty(pairs, np.float32), np.empty(pairs, np.int8)
        with self._lock:
            scorer = self._scorer
            if scorer is None:
                raise UsageError("This Scorer is closed. Open another one with Scorer.open.")
            windows = self._windows(scorer, *columns)
            with contextlib.closing(scorer.score_windows(windows)) as results:
                for (start, window), scored in results:
                    assert scored is not None, "bug: a window without scores"
                    scorer.parity_gaps(window, scored)
                    span = slice(start, start + len(scored.scores))
                    scores[span], codes[span] = scored.scores, scored.statuses
        return Scores(scores, np.array(STATUSES)[codes])

    def _windows(self, scorer: PairScorer, left: pa.ChunkedArray, right: pa.ChunkedArray) -> Iterator[Window]:
        """Prepare one window after the other, so that the tokens of few are in memory at a time."""
        for start in range(0, len(left), self._window_rows):
            texts = (_one_array(column.slice(start, self._window_rows)) for column in (left, right))
            prepared = scorer.prepare(*texts)
            yield (start, prepared), prepared

    def close(self) -> None:
        """Release the model and its memory."""
        with self._lock:
            self._scorer = None

    def __enter__(self) -> "Scorer":
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def _text_column(texts: Any, side: str) -> pa.ChunkedArray:
    """Return texts of any supported kind as an Arrow column; None and NaN are null."""
    if isinstance(texts, str | bytes):
        raise UsageError(f"{side} is one text. Give a list of texts, for example [text].")
    if isinstance(texts, pa.Array | pa.ChunkedArray):
        column = texts
    elif hasattr(texts, "to_arrow"):  # Polars
        column = texts.to_arrow()
    else:
        column = _from_cells(texts if hasattr(texts, "__array__") else list(texts), side)
    if not is_text(column.type):
        raise UsageError(f"{side} holds {column.type}, not text. Give text, for example by casting it.")
    return column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])


def _from_cells(cells: Any, side: str) -> pa.Array | pa.ChunkedArray:
    """Make an Arrow column of a list, a NumPy array or a pandas series."""
    try:
        column = pa.array(cells, from_pandas=True)
    except UnicodeEncodeError:  # half of a surrogate pair: such a text gets the status INVALID_UTF8
        data = [cell.encode("utf-8", "surrogatepass") if isinstance(cell, str) else None for cell in cells]
        column = pa.array(data, pa.large_binary()).view(pa.large_string())
    except (pa.ArrowException, TypeError, ValueError):
        raise UsageError(f"{side} has a cell that is not text. Give texts, and None for a missing one.") from None
    return pa.nulls(len(column)) if column.null_count == len(column) else column


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    joined = column.combine_chunks()
    return joined.unify_dictionaries().chunk(0) if isinstance(joined, pa.ChunkedArray) else joined


def _parameters(kind: type[ScoreRequest] | type[RefreshRequest]) -> dict[str, inspect.Parameter]:
    """Return the options that a request takes, by name."""

    def parameter(name: str, default: Any, annotation: Any) -> inspect.Parameter:
        given = inspect.Parameter.empty if default is MISSING else default
        return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=given, annotation=annotation)

    found = {name: parameter(name, spec.default, spec.kind) for name, spec in fields_of(kind).items()}
    return found | {"settings": parameter("settings", None, Settings | None)}


def _with_options(kind: type[ScoreRequest] | type[RefreshRequest]) -> Callable[[Function], Function]:
    """Give a function the signature that `help()` shows: the options of its request after its own parameters."""

    def decorate(function: Function) -> Function:
        own = [p for p in inspect.signature(function).parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        names = {p.name for p in own}
        more = [p for name, p in _parameters(kind).items() if name not in names]
        vars(function)["__signature__"] = inspect.signature(function).replace(parameters=[*own, *more])
        return function

    return decorate


def _request(kind: type[Request], given: dict[str, Any]) -> Request:
    """Make a request of options; raises `TypeError` for one that it does not have, naming the nearest that it has."""
    known = _parameters(kind)
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            raise TypeError(f"no option '{name}'{f'; did you mean {near[0]!r}?' if near else ''}")
    options = {name: tuple(value) if name == "keep" and value else value for name, value in given.items()}
    known_options: dict[str, Any] = {name: value for name, value in options.items() if (name, value) != ("settings", None)}
    return kind(**known_options)


@_with_options(ScoreRequest)
def score(location: Path | str, output: Path | str | None = None, **options: Any) -> ScoreOutcome:
    """Score each pair of a Parquet file, folder or glob, as `stsb-batch score` does; what is committed already is kept.

    The options are those of the verb. `ScoreOutcome.exit_code()` is 10 when many rows have no score and 11 when files were
    left out. Raises a `StsbBatchError` where the verb ends with an error.
    """
    given = options | {"location": str(location), "output": None if output is None else str(output)}
    return score_dataset(_request(ScoreRequest, given))


@_with_options(RefreshRequest)
def refresh(labels: Path | str, *, dry_run: bool = False, **options: Any) -> RefreshOutcome:
    """Fine-tune a model, compare it with the champion, and promote it if it passes the gate, as `stsb-batch refresh` does.

    With `dry_run` nothing is promoted. A refusal is no error: see `RefreshOutcome.decision.passed`.
    """
    return run_refresh(_request(RefreshRequest, options | {"labels": str(labels)}), dry_run=dry_run)


def evaluate(
    labelled: Path | str,
    *,
    model: str = "champion",
    left: str = "sentence1",
    right: str = "sentence2",
    label: str | None = None,
    label_scale: str | None = None,
    engine: str | None = None,
    precision: str | None = None,
    plots: Path | str | None = None,
    settings: Settings | None = None,
) -> Evaluation:
    """Measure a model on labelled pairs, as `stsb-batch evaluate` does; plots are saved where a folder is given."""
    options = {"left": left, "right": right, "label": label, "label_scale": label_scale}
    options |= {"engine": engine, "precision": precision}
    request = _request(ScoreRequest, options | {"location": str(labelled), "settings": settings})
    found = evaluate_labels(str(labelled), model=model, columns=request.columns, settings=request.settings)
    if plots is not None:
        save_pictures(found, Path(plots))
    return found


def verify(location: Path | str, *, sample: int = 200, settings: Settings | None = None) -> Verification:
    """Check a run's output, or all that a home keeps, as `stsb-batch verify` does: see `Verification.problems`."""
    settings = settings or load_settings()
    if is_home(Path(location), settings):
        return verify_home(Path(location))
    return verify_output(Path(location), sample=sample, settings=settings)
