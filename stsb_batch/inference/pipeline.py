"""Two Arrow text columns in, scores in input order out. Knows no files and no reports."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pyarrow as pa

from stsb_batch.errors import ModelIntegrityError
from stsb_batch.inference.dispatch import GuardedRun, GuardedScores, TokenBudget, score_guarded
from stsb_batch.inference.engines import Engine
from stsb_batch.inference.texts import DistinctPairs, distinct_pairs
from stsb_batch.inference.tokens import PairTokenizer, TokenizedPairs
from stsb_batch.pairs.schema import EMPTY_INPUT, NONFINITE, OK, OK_TRUNCATED

Key = TypeVar("Key")
Progress = Callable[[int, int], None]  # rows and tokens of a finished batch
PARITY_LENGTHS, PARITY_PAIRS = 4, 4  # so many pairs each of so many lengths in a window are scored a second time in fp32
# on the 0-5 scale; beyond it an engine is wrong, not rounded
PARITY_TOLERANCE = {"fp32": 0.005, "bf16": 0.1, "fp16": 0.1, "int8": 0.3}


@dataclass(frozen=True)
class ScoredPairs:
    """What became of a window's rows.

    `scores` (rows,) float32, NaN where there is none · `statuses` (rows,) int8 · `lengths` (rows,) int32 tokens, 0 where
    not scored · `distinct` pairs that went through the model · `model_tokens`, of which `filling` only filled batches up ·
    `text_tokens` of the scored rows without special ones, `unknown` of them unknown to the tokeniser.
    """

    scores: np.ndarray
    statuses: np.ndarray
    lengths: np.ndarray
    distinct: int
    model_tokens: int
    filling: int
    text_tokens: int
    unknown: int


@dataclass(frozen=True)
class PreparedPairs:
    """A window's rows classified, its distinct pairs tokenised, and their run through the engine, not yet started."""

    pairs: DistinctPairs
    tokens: TokenizedPairs
    run: GuardedRun
    progress: Progress


@dataclass(frozen=True)
class PairScorer:
    """Everything that scoring holds open: tokeniser, engine, and the way to the fp32 engine it is compared with."""

    tokenizer: PairTokenizer
    engine: Engine
    reference: Callable[[], Engine]
    budget: TokenBudget
    parity: bool = True

    def score(self, left: pa.Array, right: pa.Array, progress: Progress = lambda *_: None) -> ScoredPairs:
        """Score each row of two text columns (rows,)."""
        prepared = self.prepare(left, right, progress)
        ((_, scored),) = self.score_all([(None, prepared)])
        self.parity_gaps(prepared, scored)
        return scored

    def prepare(self, left: pa.Array, right: pa.Array, progress: Progress = lambda *_: None) -> PreparedPairs:
        """Classify and tokenise two text columns (rows,), ahead of their turn and in any thread."""
        pairs = distinct_pairs(left, right)
        tokens = self.tokenizer.encode(pairs.left, pairs.right, pairs.left_index, pairs.right_index)
        lengths, copies = tokens.lengths, np.bincount(pairs.inverse, minlength=len(tokens.lengths))

        def advance(rows: np.ndarray) -> None:
            progress(int(copies[rows].sum()), int(lengths[rows].sum()))

        run = GuardedRun(self.engine, tokens, np.flatnonzero(~tokens.empty), self.budget, advance)
        return PreparedPairs(pairs, tokens, run, progress)

    def score_all(self, windows: Iterable[tuple[Key, PreparedPairs]]) -> Iterator[tuple[Key, ScoredPairs]]:
        """Run the engine over windows of prepared pairs, each with whatever it is known by; yields their scores in order.

        The first batches of a window start while the last ones of the window before are under way: between windows, too,
        a device has work.
        """
        runs: deque[tuple[Key, PreparedPairs]] = deque()
        try:
            for key, prepared in windows:
                runs.append((key, prepared))
                if len(runs) > 1:
                    yield self._finish(runs)
                prepared.run.start()
            if runs:
                yield self._finish(runs)
        finally:
            for _, prepared in runs:
                prepared.run.leave()

    def _finish(self, runs: deque[tuple[Key, PreparedPairs]]) -> tuple[Key, ScoredPairs]:
        """Finish the first of these runs, while the last of them starts."""
        key, prepared = runs[0]
        result = prepared.run.finish(runs[-1][1].run)
        runs.popleft()
        return key, self._scored(prepared, result)

    def _scored(self, prepared: PreparedPairs, result: GuardedScores) -> ScoredPairs:
        """Put the scores of distinct pairs back into the order of the rows."""
        pairs, tokens, given = prepared.pairs, prepared.tokens, np.flatnonzero(~prepared.tokens.empty)
        of_pairs = GuardedScores.empty(len(tokens.empty))
        of_pairs.replace(given, result)
        of_pairs.failures[tokens.empty] = EMPTY_INPUT
        self._mend(tokens, of_pairs)
        statuses = pairs.statuses
        statuses[pairs.rows[tokens.truncated[pairs.inverse]]] = OK_TRUNCATED
        failed = of_pairs.failures[pairs.inverse]
        statuses[pairs.rows[failed != OK]] = failed[failed != OK]
        scores = np.full(len(statuses), np.nan, np.float32)
        scores[pairs.rows] = of_pairs.scores[pairs.inverse]
        lengths = np.zeros(len(statuses), np.int32)
        lengths[pairs.rows] = np.where(tokens.empty, 0, tokens.lengths)[pairs.inverse]
        copies = np.bincount(pairs.inverse, minlength=len(tokens.empty))
        prepared.progress(len(statuses) - int(copies[given].sum()), 0)
        copies[of_pairs.failures != OK] = 0
        return ScoredPairs(
            scores=scores,
            statuses=statuses,
            lengths=lengths,
            distinct=len(given),
            model_tokens=result.tokens,
            filling=result.filling,
            text_tokens=int(copies @ (tokens.lengths - tokens.special)),
            unknown=int(copies @ tokens.unknown),
        )

    def _mend(self, tokens: TokenizedPairs, result: GuardedScores) -> None:
        """Score again in fp32 where half precision overflows."""
        bad = np.flatnonzero((result.failures == OK) & ~np.isfinite(result.scores))
        if len(bad):
            result.replace(bad, self._score_reference(tokens, bad))
        still_bad = (result.failures == OK) & ~np.isfinite(result.scores)
        result.failures[still_bad] = NONFINITE
        result.scores[result.failures != OK] = np.nan

    def parity_gaps(self, prepared: PreparedPairs, scored: ScoredPairs) -> np.ndarray:
        """Score a sample of short, usual and long pairs a second time in fp32; returns |score - fp32 score| (sample,).

        Raises `ModelIntegrityError` when a gap is beyond rounding. Without `parity` nothing is scored and none returned.
        """
        pairs, tokens = prepared.pairs, prepared.tokens
        if not self.parity or not len(tokens.lengths):
            return np.empty(0, np.float32)
        scores = np.empty(len(tokens.lengths), np.float32)
        scores[pairs.inverse] = scored.scores[pairs.rows]
        chosen = np.unique(np.quantile(tokens.lengths, np.linspace(0, 1, PARITY_LENGTHS), method="nearest"))
        sample = np.concatenate([np.flatnonzero(tokens.lengths == length)[:PARITY_PAIRS] for length in chosen])
        sample = sample[np.isfinite(scores[sample])]
        gaps = np.abs(scores[sample] - self._score_reference(tokens, sample).scores)
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

    def _score_reference(self, tokens: TokenizedPairs, rows: np.ndarray) -> GuardedScores:
        if not len(rows):
            return GuardedScores.empty(0)
        return score_guarded(self.reference(), tokens, rows, self.budget)
