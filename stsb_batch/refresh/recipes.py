"""Training recipes: the hyper-parameters that turn a base encoder into a cross-encoder."""

from dataclasses import dataclass

from stsb_batch.errors import UsageError


@dataclass(frozen=True)
class Stage:
    """Hyper-parameters of one fine-tuning: AdamW, linear decay after the warm-up, mean squared error on the 0-5 label.

    With `swapped`, a pair's two texts change sides at random each time. With `symmetry` above 0, each batch has its pairs
    in both orders, and the mean squared difference of their two scores is added to the loss with this weight.
    `length_grouped` batches pairs of similar length. The last epoch is kept or, with `best_epoch`, the one with the lowest
    validation loss.
    """

    epochs: int
    batch_size: int = 32
    learning_rate: float = 5e-5
    warmup_steps: int = 100
    weight_decay: float = 0.01
    length_grouped: bool = False
    swapped: bool = False
    symmetry: float = 0.0
    dropout: bool = True
    best_epoch: bool = False
    seed: int = 42


@dataclass(frozen=True)
class Recipe:
    """A gold stage on the labels, perhaps after a silver stage on pairs that the sentence encoder labels.

    There are `silver_factor` silver pairs for each distinct text, at most `silver_limit`; a share `words` of them are pairs
    of word lists. `kept_gold` is the share of the gold stage's change of the weights that is kept (see `train.blend`).
    """

    name: str
    gold: Stage
    silver: Stage | None = None
    silver_factor: float = 0.0
    silver_limit: int = 40_000
    words: float = 0.0
    kept_gold: float = 1.0


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("reference", gold=Stage(epochs=3, best_epoch=True)),
        # For few labels: on a thousand pairs the reference would end within its warm-up, and a model with all of the gold
        # stage's change would be worse on other texts.
        Recipe(
            "silver",
            gold=Stage(epochs=3, batch_size=16, warmup_steps=20, length_grouped=True, swapped=True, dropout=False),
            silver=Stage(epochs=1, learning_rate=1e-4, warmup_steps=50, length_grouped=True, swapped=True, dropout=False),
            silver_factor=8.0,
            words=0.5,
            kept_gold=0.5,
        ),
        # For a few thousand labels: many silver pairs for one epoch, and most of the gold stage's change.
        Recipe(
            "best",
            gold=Stage(epochs=3, length_grouped=True, symmetry=1.0, dropout=False),
            silver=Stage(epochs=1, learning_rate=1e-4, length_grouped=True, swapped=True, dropout=False),
            silver_factor=12.0,
            silver_limit=120_000,
            kept_gold=0.9,
        ),
    )
}


def find_recipe(name: str) -> Recipe:
    """Return a recipe by name; raises `UsageError` for an unknown name."""
    if name not in RECIPES:
        raise UsageError(f"{name}: no such recipe. Choose one of {', '.join(RECIPES)}.")
    return RECIPES[name]
