"""Two Arrow text columns in, scores in input order out. Knows no files and no reports."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import TypeVar

import numpy as np
import pyarrow as pa

from stsb_batch.errors import ModelIntegrityError
from stsb_batch.inference.dispatch import Count, Dispatcher, QueuedBatch, RawScores, TokenBudget, Workload
from stsb_batch.inference.engines import Engine
from stsb_batch.inference.texts import DistinctPairs, distinct_pairs
from stsb_batch.inference.tokens import PairTokenizer, TokenizedPairs
from stsb_batch.pairs.schema import EMPTY_INPUT, NONFINITE, OK, OK_TRUNCATED

Key = TypeVar("Key")
PARITY_LENGTHS, PARITY_PAIRS = 4, 4  # so many pairs each of so many lengths in a window are scored a second time in fp32
# on the 0-5 scale; beyond it an engine is wrong, not rounded
PARITY_TOLERANCE = {"fp32": 0.005, "bf16": 0.1, "fp16": 0.1, "int8": 0.3}


@dataclass(frozen=True)
class ScoredPairs:
    """What became of a window's rows.

    `scores` (rows,) float32, NaN where there is none · `statuses` (rows,) int8 · `lengths` (rows,) int32 tokens, 0 where
    not scored · `distinct` pairs that went through the model · `model_tokens`, of which `padding` only filled batches up ·
    `text_tokens` of the scored rows without special ones, `unknown` of them unknown to the tokeniser.
    """

    scores: np.ndarray
    statuses: np.ndarray
    lengths: np.ndarray
    distinct: int
    model_tokens: int
    padding: int
    text_tokens: int
    unknown: int


@dataclass(frozen=True)
class PreparedPairs:
    """A window's rows classified, its distinct pairs tokenised and cut into batches that are not queued yet."""

    pairs: DistinctPairs
    tokens: TokenizedPairs
    workload: Workload
    batches: list[QueuedBatch]


class Reference:
    """The fp32 torch engine that scores are compared with: opened at its first use, used by one caller at a time.

    It has a token budget of its own, so that neither engine shrinks the other's batches.
    """

    def __init__(self, open_engine: Callable[[], Engine], budget: TokenBudget) -> None:
        self._open_engine, self._budget, self._lock = open_engine, budget, Lock()

    @cached_property
    def _dispatcher(self) -> Dispatcher:
        return Dispatcher(self._open_engine(), self._budget)

    def score(self, tokens: TokenizedPairs, pairs: np.ndarray) -> RawScores:
        """Score some of the tokenised pairs (n,)."""
        if not len(pairs):
            return RawScores.empty(0)
        with self._lock:
            return self._dispatcher.score(tokens, pairs)


class PairScorer:
    """Everything that scoring holds open: a tokeniser, an engine, and the fp32 engine it is compared with.

    `open_reference` is None where the engine is fp32 torch itself: there is nothing to compare, and no parity.
    One thread takes scores (`score_windows`); any thread may `prepare` or ask for `parity_gaps`.
    """

    def __init__(
        self,
        tokenizer: PairTokenizer,
        engine: Engine,
        open_reference: Callable[[], Engine] | None,
        budget: TokenBudget,
        *,
        parity: bool = True,
    ) -> None:
        self.tokenizer, self.engine, self.budget = tokenizer, engine, budget
        own_budget = TokenBudget(budget.tokens, budget.fixed_shapes)
        self.reference = Reference(open_reference, own_budget) if open_reference else None
        self.parity = parity and self.reference is not None
        self._dispatcher = Dispatcher(engine, budget)

    def score(self, left: pa.Array, right: pa.Array, count: Count = lambda rows, tokens: None) -> ScoredPairs:
        """Score each row of two text columns (rows,); `count(rows, tokens)` is called for each finished batch."""
        prepared = self.prepare(left, right)
        ((_, scored),) = self.score_windows([(None, prepared)], count)
        assert scored is not None, "bug: a window without scores"
        self.parity_gaps(prepared, scored)
        return scored

    def prepare(self, left: pa.Array, right: pa.Array) -> PreparedPairs:
        """Classify, tokenise and cut into batches two text columns (rows,), ahead of their turn and in any thread."""
        pairs = distinct_pairs(left, right)
        tokens = self.tokenizer.encode(pairs.left, pairs.right, pairs.left_index, pairs.right_index)
        usable = np.flatnonzero(~tokens.empty)
        copies = np.bincount(pairs.inverse, minlength=len(tokens.lengths))[usable]
        return PreparedPairs(pairs, tokens, *self._dispatcher.plan(tokens, usable, copies))

    def score_windows(
        self, windows: Iterable[tuple[Key, PreparedPairs | None]], count: Count = lambda rows, tokens: None
    ) -> Generator[tuple[Key, ScoredPairs | None], None, None]:
        """Run the engine over windows, each with a key; yields key and scores in order (None for None, in its turn).

        The first batches of a window start while the last ones of the window before are in flight, so that a device has
        work between windows, too.
        """
        waiting: deque[tuple[Key, PreparedPairs | None]] = deque()

        def finished() -> Iterator[tuple[Key, ScoredPairs | None]]:
            while waiting and (waiting[0][1] is None or not waiting[0][1].workload.unfinished):
                key, prepared = waiting.popleft()
                yield key, None if prepared is None else self._scored(prepared, count)

        dispatcher = self._dispatcher
        try:
            for key, prepared in windows:
                waiting.append((key, prepared))
                if prepared is not None:
                    dispatcher.add(prepared.batches)
                    dispatcher.fill(count)
                yield from finished()
                while dispatcher.queue:
                    dispatcher.collect(count)
                    yield from finished()
            while waiting:
                dispatcher.collect(count)
                yield from finished()
        finally:
            dispatcher.clear()

    def _scored(self, prepared: PreparedPairs, count: Count) -> ScoredPairs:
        """Put the scores of distinct pairs back into the order of the rows."""
        pairs, tokens, workload = prepared.pairs, prepared.tokens, prepared.workload
        of_pairs = RawScores.empty(len(tokens.empty))
        of_pairs.replace(workload.pairs, workload.result)
        of_pairs.failures[tokens.empty] = EMPTY_INPUT
        self._score_nonfinite_again(tokens, of_pairs)
        statuses = pairs.statuses
        statuses[pairs.rows[tokens.truncated[pairs.inverse]]] = OK_TRUNCATED
        failed = of_pairs.failures[pairs.inverse]
        statuses[pairs.rows[failed != OK]] = failed[failed != OK]
        scores = np.full(len(statuses), np.nan, np.float32)
        scores[pairs.rows] = of_pairs.scores[pairs.inverse]
        lengths = np.zeros(len(statuses), np.int32)
        lengths[pairs.rows] = np.where(tokens.empty, 0, tokens.lengths)[pairs.inverse]
        count(len(statuses) - int(workload.copies.sum()), 0)
        copies = np.bincount(pairs.inverse, minlength=len(tokens.empty))
        copies[of_pairs.failures != OK] = 0
        return ScoredPairs(
            scores=scores,
            statuses=statuses,
            lengths=lengths,
            distinct=len(workload.pairs),
            model_tokens=workload.model_tokens,
            padding=workload.padding,
            text_tokens=int(copies @ (tokens.lengths - tokens.special)),
            unknown=int(copies @ tokens.unknown),
        )

    def _score_nonfinite_again(self, tokens: TokenizedPairs, result: RawScores) -> None:
        """Score in fp32 what half precision overflows on."""
        bad = np.flatnonzero((result.failures == OK) & ~np.isfinite(result.scores))
        if len(bad) and self.reference:
            result.replace(bad, self.reference.score(tokens, bad))
        still_bad = (result.failures == OK) & ~np.isfinite(result.scores)
        result.failures[still_bad] = NONFINITE
        result.scores[result.failures != OK] = np.nan

    def parity_gaps(self, prepared: PreparedPairs, scored: ScoredPairs) -> np.ndarray:
        """Score a sample of short, usual and long pairs a second time in fp32; returns |score - fp32 score| (sample,).

        Raises `ModelIntegrityError` when a gap is beyond rounding. Returns an empty array where there is no parity.
        """
        pairs, tokens = prepared.pairs, prepared.tokens
        if not self.parity or self.reference is None or not len(tokens.lengths):
            return np.empty(0, np.float32)
        scores = np.empty(len(tokens.lengths), np.float32)
        scores[pairs.inverse] = scored.scores[pairs.rows]
        chosen = np.unique(np.quantile(tokens.lengths, np.linspace(0, 1, PARITY_LENGTHS), method="nearest"))
        sample = np.concatenate([np.flatnonzero(tokens.lengths == length)[:PARITY_PAIRS] for length in chosen])
        sample = sample[np.isfinite(scores[sample])]
        gaps = np.abs(scores[sample] - self.reference.score(tokens, sample).scores)
        if not np.isfinite(gaps).all():
            raise ModelIntegrityError(
                f"Engine {self.engine.choice} scores pairs that fp32 torch cannot: tokeniser and model do not fit together."
            )
        if gaps.max(initial=0.0) > PARITY_TOLERANCE[self.engine.choice.precision]:
            raise ModelIntegrityError(
                f"Engine {self.engine.choice} gives scores up to {gaps.max():.3f} away from fp32 torch. Choose another with "
                "--engine or --precision, or accept it with --no-parity."
            )
        return gaps
