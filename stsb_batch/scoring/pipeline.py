"""Two Arrow text columns in, scores in input order out. Knows no files and no reports."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from stsb_batch.pairs.schema import NONFINITE, OK_TRUNCATED
from stsb_batch.scoring.batches import pad_batch, plan_batches
from stsb_batch.scoring.engines import Engine
from stsb_batch.scoring.texts import distinct_pairs
from stsb_batch.scoring.tokens import PairTokenizer, TokenizedPairs

PARITY_PAIRS = 16  # pairs of each window that are scored a second time in fp32


@dataclass(frozen=True)
class ScoredPairs:
    """What became of a window's rows.

    `scores` (rows,) float32, NaN where there is none · `statuses` (rows,) int8 · `lengths` (rows,) int32 tokens, 0 where
    not scored · `distinct` pairs that went through the model · `gaps` (sample,) |score - fp32 score|.
    """

    scores: np.ndarray
    statuses: np.ndarray
    lengths: np.ndarray
    distinct: int
    gaps: np.ndarray


@dataclass(frozen=True)
class PairScorer:
    """Everything that scoring holds open: tokeniser, engine, and the way to the fp32 engine it is compared with."""

    tokenizer: PairTokenizer
    engine: Engine
    reference: Callable[[], Engine]
    max_tokens: int

    def score(self, left: pa.Array, right: pa.Array, progress: Callable[[int, int], None] | None = None) -> ScoredPairs:
        """Score each row of two text columns (rows,). `progress(rows, tokens)` hears of each finished batch."""
        pairs = distinct_pairs(left, right, max_length=self.tokenizer.max_length)
        tokens = self.tokenizer.encode(pairs.left, pairs.right)
        copies = np.bincount(pairs.inverse, minlength=len(tokens.lengths))
        distinct_scores, gaps = self._score_tokens(tokens, copies, progress)

        statuses = pairs.statuses
        statuses[pairs.rows[tokens.truncated[pairs.inverse]]] = OK_TRUNCATED
        scores = np.full(len(statuses), np.nan, np.float32)
        scores[pairs.rows] = distinct_scores[pairs.inverse]
        statuses[pairs.rows[~np.isfinite(scores[pairs.rows])]] = NONFINITE
        scores[statuses == NONFINITE] = np.nan
        lengths = np.zeros(len(statuses), np.int32)
        lengths[pairs.rows] = tokens.lengths[pairs.inverse]
        if progress:
            progress(len(statuses) - len(pairs.rows), 0)
        return ScoredPairs(scores, statuses, lengths, len(copies), gaps)

    def _score_tokens(self, tokens: TokenizedPairs, copies: np.ndarray, progress) -> tuple[np.ndarray, np.ndarray]:
        scores = np.empty(len(copies), np.float32)
        for rows in plan_batches(tokens.lengths, self.max_tokens):
            scores[rows] = self.engine.score(pad_batch(tokens, rows, self.tokenizer.pad_id))
            if progress:
                progress(int(copies[rows].sum()), int(tokens.lengths[rows].sum()))
        bad = np.flatnonzero(~np.isfinite(scores))
        if len(bad):  # half precision can overflow where fp32 does not
            scores[bad] = self._score_reference(tokens, bad)
        by_length = np.argsort(tokens.lengths, kind="stable")
        sample = np.unique(by_length[np.linspace(0, len(copies) - 1, PARITY_PAIRS).astype(int)]) if len(copies) else bad
        gaps = np.abs(scores[sample] - self._score_reference(tokens, sample)) if len(sample) else np.empty(0, np.float32)
        return scores, gaps[np.isfinite(gaps)]

    def _score_reference(self, tokens: TokenizedPairs, rows: np.ndarray) -> np.ndarray:
        scores = np.empty(len(rows), np.float32)
        for batch in plan_batches(tokens.lengths[rows], self.max_tokens):
            scores[batch] = self.reference().score(pad_batch(tokens, rows[batch], self.tokenizer.pad_id))
        return scores
