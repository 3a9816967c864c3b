"""Churn on a sample: champion and challenger score the same real pairs before a promotion."""

from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from stsb_batch.errors import escape_control
from stsb_batch.inference.scorer import open_plain_scorer
from stsb_batch.models.checkpoint import Checkpoint
from stsb_batch.refresh.churn import Churn, measure_churn
from stsb_batch.refresh.sample import Sample
from stsb_batch.settings import Settings


@dataclass(frozen=True)
class SampleChurn:
    """Churn on a sample, with the sample, from which the texts of the movers can be shown on request."""

    churn: Churn
    sample: Sample

    def movers(self) -> list[dict[str, Any]]:
        """Return the movers, largest difference first: `file`, `row`, `champion`, `challenger`."""
        places = self.sample.rows.select(["file", "row"])
        return [
            {**places.slice(mover.position, 1).to_pylist()[0], "champion": mover.champion, "challenger": mover.challenger}
            for mover in self.churn.movers
        ]

    def texts(self, position: int) -> tuple[str, str]:
        """Return the two texts at a position of the sample, with control characters escaped."""
        cells = (self.sample.rows[side][position].cast(pa.binary()).as_py() for side in ("left", "right"))
        left, right = (escape_control((cell or b"").decode(errors="replace")) for cell in cells)
        return left, right

    def to_card(self) -> dict[str, Any]:
        """Return what the model's card records: figures and positions, no texts."""
        return asdict(self.churn) | {"sample": self.sample.source, "movers": self.movers()}


def churn_on(
    sample: Sample, champion: Checkpoint, challenger: Checkpoint, thresholds: tuple[float, ...], settings: Settings
) -> SampleChurn:
    """Score a sample with both models, and compare the scores with each other and with `thresholds`."""
    left, right = (sample.rows[side].combine_chunks() for side in ("left", "right"))
    old, new = (open_plain_scorer(model, settings).score(left, right).scores for model in (champion, challenger))
    return SampleChurn(measure_churn(old, new, thresholds), sample)
