"""The sample of real pairs that churn is measured on."""

from pathlib import Path

from stsb_batch.models.checkpoint import open_checkpoint
from stsb_batch.pairs.schema import Columns
from stsb_batch.refresh.sample import read_sample
from stsb_batch.refresh.sample_churn import churn_on
from tests.builders import make_pairs


def test_texts_stay_off_the_card(bert: Path, distilbert: Path, tmp_path: Path, settings):
    """The card has positions and scores of the worst movers; their texts come only when asked for, fit to be shown."""
    frame = make_pairs(50)
    frame[7, "sentence1"], frame[8, "sentence2"] = None, "\x1b[31mred"
    frame.write_parquet(tmp_path / "in.parquet")
    sample = read_sample(str(tmp_path / "in.parquet"), Columns())
    found = churn_on(sample, open_checkpoint(bert), open_checkpoint(distilbert), (2.5,), settings)
    assert found.churn.pairs == 49
    assert not any(word in str(found.to_card()) for word in ("pump", "ticket", "guitar"))
    worst = found.churn.movers[0].position
    assert found.texts(worst) == (frame["sentence1"][worst], frame["sentence2"][worst])
    assert found.texts(8)[1] == "\\x1b[31mred"
