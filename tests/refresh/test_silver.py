"""Silver labels: the encoder's own opinion of pairs."""

from stsb_batch.models.base import find_base_model
from stsb_batch.refresh.silver import silver_pairs


def test_silver_labels_follow_meaning():
    """With the real encoder a paraphrase gets a higher silver label than an unrelated text, and no text meets itself."""
    texts = [
        "A man plays the guitar.",
        "Someone is playing a guitar.",
        "The court upheld the fine.",
        "Stock prices fell today.",
    ]
    pairs = silver_pairs(find_base_model("minilm"), texts, 200, seed=1)
    assert (pairs["left"] != pairs["right"]).all()
    assert pairs["label"].is_between(0, 5).all()
    label = {(left, right): value for left, right, value in pairs.rows()}
    assert label[(texts[0], texts[1])] > 3
    assert label[(texts[0], texts[2])] < 1
