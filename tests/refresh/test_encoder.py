"""Embeddings of texts, and which of them lie near one another."""

import numpy as np
import pytest

from stsb_batch.models.base import find_base_model
from stsb_batch.refresh.encoder import SentenceEncoder, nearest
from tests.builders import make_texts


def test_embeddings_are_of_their_text_only():
    """Unit length, in the order of the texts, the same whatever texts share a batch; progress counts them."""
    encoder, texts, steps = SentenceEncoder(find_base_model("minilm")), make_texts(70), []
    together = encoder.embed(texts, lambda *step: steps.append(step))
    assert np.linalg.norm(together, axis=1) == pytest.approx(np.ones(70), abs=1e-5)
    assert together[[3, 69]] == pytest.approx(np.concatenate([encoder.embed([texts[row]]) for row in (3, 69)]), abs=1e-5)
    assert steps == [(64, 70), (70, 70)]


def test_nearest_are_those_of_the_highest_cosine():
    """No row is its own neighbour, in one chunk or several."""
    vectors = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosine = vectors @ vectors.T - 2 * np.eye(40)
    expected = np.argsort(-cosine, axis=1)[:, :3]
    for chunk in (7, 2_048):
        assert np.array_equal(np.sort(nearest(vectors, 3, chunk=chunk)), np.sort(expected))
