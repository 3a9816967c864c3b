"""Training recipes: the numbers that turn a base encoder into a scorer."""

from dataclasses import dataclass

from stsb_batch.errors import UsageError


@dataclass(frozen=True)
class Stage:
    """Hyper-parameters of one fine-tune: AdamW, linear decay after the warm-up, mean squared error on the 0-5 label.

    With `swapped` a pair's two texts change sides at random, each time it is met.
    """

    epochs: int
    batch_size: int = 32
    learning_rate: float = 5e-5
    warmup_steps: int = 100
    weight_decay: float = 0.01
    length_grouped: bool = False
    swapped: bool = False
    seed: int = 42


@dataclass(frozen=True)
class Recipe:
    """A gold stage on the labels, perhaps after a silver one on `silver_factor` mined pairs for each distinct text."""

    name: str
    gold: Stage
    silver: Stage | None = None
    silver_factor: float = 0.0
    silver_limit: int = 40_000


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("reference", gold=Stage(epochs=3)),
        # For few labels on a sentence encoder: three epochs on a thousand pairs would end inside the reference's warm-up.
        Recipe(
            "silver",
            gold=Stage(epochs=3, batch_size=16, warmup_steps=20, length_grouped=True),
            silver=Stage(epochs=1, learning_rate=1e-4, warmup_steps=50, length_grouped=True),
            silver_factor=7.0,
        ),
        # For a few thousand labels and time: as many silver pairs as are worth it, met twice, and sides that change.
        Recipe(
            "best",
            gold=Stage(epochs=3, length_grouped=True, swapped=True),
            silver=Stage(epochs=2, learning_rate=1e-4, length_grouped=True, swapped=True),
            silver_factor=7.0,
        ),
    )
}


def find_recipe(name: str) -> Recipe:
    """Return a recipe by name; raises `UsageError` with the names there are."""
    if name not in RECIPES:
        raise UsageError(f"{name}: no such recipe. There are: {', '.join(RECIPES)}.")
    return RECIPES[name]
