"""Training recipes: the numbers that turn a base encoder into a scorer."""

from dataclasses import dataclass

from stsb_batch.errors import UsageError


@dataclass(frozen=True)
class Recipe:
    """Hyper-parameters of one fine-tune; AdamW with linear decay after the warm-up, mean squared error on the 0-5 label."""

    name: str
    epochs: int
    batch_size: int = 32
    learning_rate: float = 5e-5
    warmup_steps: int = 100
    weight_decay: float = 0.01
    length_grouped: bool = False
    seed: int = 42


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("reference", epochs=3),
        # For about a thousand labels: more, smaller steps, since three epochs would end inside the reference's warm-up.
        Recipe("small", epochs=6, batch_size=16, learning_rate=1e-4, warmup_steps=50, length_grouped=True),
    )
}


def find_recipe(name: str) -> Recipe:
    """Return a recipe by name; raises `UsageError` with the names there are."""
    if name not in RECIPES:
        raise UsageError(f"{name}: no such recipe. There are: {', '.join(RECIPES)}.")
    return RECIPES[name]
