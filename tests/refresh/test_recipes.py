"""Recipes: the published one, and those that there are."""

import pytest

from stsb_batch.errors import UsageError
from stsb_batch.refresh.recipes import find_recipe


def test_reference_recipe_is_the_reference():
    """The reference recipe has the published hyper-parameters."""
    gold = find_recipe("reference").gold
    assert (gold.epochs, gold.batch_size, gold.warmup_steps, gold.weight_decay, gold.seed) == (3, 32, 100, 0.01, 42)
    assert find_recipe("reference").silver is None
    with pytest.raises(UsageError, match="Choose one of reference, silver, best"):
        find_recipe("other")
