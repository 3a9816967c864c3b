"""Two Arrow text columns in, scores in input order out. Knows no files and no reports."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pyarrow as pa

from stsb_batch.errors import ModelIntegrityError
from stsb_batch.pairs.schema import NONFINITE, OK, OK_TRUNCATED
from stsb_batch.scoring.engines import Engine
from stsb_batch.scoring.guard import GuardedRun, GuardedScores, TokenBudget, score_guarded
from stsb_batch.scoring.texts import DistinctPairs, distinct_pairs
from stsb_batch.scoring.tokens import PairTokenizer, TokenizedPairs

Key = TypeVar("Key")
PARITY_LENGTHS, PARITY_PAIRS = 4, 4  # so many pairs each of so many lengths in a window are scored a second time in fp32
# on the 0-5 scale; beyond it an engine is wrong, not rounded
PARITY_TOLERANCE = {"fp32": 0.005, "bf16": 0.1, "fp16": 0.1, "int8": 0.3}


@dataclass(frozen=True)
class ScoredPairs:
    """What became of a window's rows.

    `scores` (rows,) float32, NaN where there is none · `statuses` (rows,) int8 · `lengths` (rows,) int32 tokens, 0 where
    not scored · `distinct` pairs that went through the model · `model_tokens`, of which `filling` only filled batches up.
    """

    scores: np.ndarray
    statuses: np.ndarray
    lengths: np.ndarray
    distinct: int
    model_tokens: int
    filling: int


@dataclass(frozen=True)
class PreparedPairs:
    """A window's rows classified, and its distinct pairs tokenised; of each distinct pair (pairs,) the number of rows."""

    pairs: DistinctPairs
    tokens: TokenizedPairs
    copies: np.ndarray


@dataclass(frozen=True)
class PairScorer:
    """Everything that scoring holds open: tokeniser, engine, and the way to the fp32 engine it is compared with."""

    tokenizer: PairTokenizer
    engine: Engine
    reference: Callable[[], Engine]
    budget: TokenBudget
    parity: bool = True

    def score(self, left: pa.Array, right: pa.Array, progress: Callable[[int, int], None] | None = None) -> ScoredPairs:
        """Score each row of two text columns (rows,). `progress(rows, tokens)` hears of each finished batch."""
        prepared = self.prepare(left, right)
        ((_, scored),) = self.score_all([(None, prepared)], progress)
        self.parity_gaps(prepared, scored)
        return scored

    def prepare(self, left: pa.Array, right: pa.Array) -> PreparedPairs:
        """Classify and tokenise two text columns (rows,); needs no engine, so that it can run ahead of one."""
        pairs = distinct_pairs(left, right, max_length=self.tokenizer.max_length)
        tokens = self.tokenizer.encode(pairs.left, pairs.right, pairs.left_index, pairs.right_index)
        return PreparedPairs(pairs, tokens, np.bincount(pairs.inverse, minlength=len(tokens.lengths)))

    def score_all(
        self, windows: Iterable[tuple[Key, PreparedPairs]], progress: Callable[[int, int], None] | None = None
    ) -> Iterator[tuple[Key, ScoredPairs]]:
        """Run the engine over windows of prepared pairs, each with whatever it is known by; yields their scores in order.

        The first batches of a window start while the last ones of the window before are under way: between windows, too,
        a device has work.
        """
        before, run = None, None
        try:
            for key, prepared in windows:
                run = self._run(prepared, progress)
                if before:
                    yield before[0], self._scored(before[1], before[2].finish(run), progress)
                run.start()
                before = key, prepared, run
            if before:
                yield before[0], self._scored(before[1], before[2].finish(), progress)
        finally:
            for left in (before and before[2], run):
                if left:
                    left.leave()

    def _run(self, prepared: PreparedPairs, progress: Callable[[int, int], None] | None) -> GuardedRun:
        copies, lengths = prepared.copies, prepared.tokens.lengths

        def advance(rows: np.ndarray) -> None:
            if progress:
                progress(int(copies[rows].sum()), int(lengths[rows].sum()))

        return GuardedRun(self.engine, prepared.tokens, np.arange(len(lengths)), self.budget, advance)

    def _scored(self, prepared: PreparedPairs, result: GuardedScores, progress) -> ScoredPairs:
        """Put the scores of distinct pairs back into the order of the rows."""
        pairs, tokens = prepared.pairs, prepared.tokens
        self._mend(tokens, result)
        statuses = pairs.statuses
        statuses[pairs.rows[tokens.truncated[pairs.inverse]]] = OK_TRUNCATED
        failed = result.failures[pairs.inverse]
        statuses[pairs.rows[failed != OK]] = failed[failed != OK]
        scores = np.full(len(statuses), np.nan, np.float32)
        scores[pairs.rows] = result.scores[pairs.inverse]
        lengths = np.zeros(len(statuses), np.int32)
        lengths[pairs.rows] = tokens.lengths[pairs.inverse]
        if progress:
            progress(len(statuses) - len(pairs.rows), 0)
        return ScoredPairs(scores, statuses, lengths, len(tokens.lengths), result.tokens, result.filling)

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
