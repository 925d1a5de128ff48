"""Training: recipes, data, augmentation, the loop, checkpoints, search (needs the ``train`` extra)."""

from hounsfield.training.recipe import Recipe
from hounsfield.training.recipe_text import parse_recipe, read_recipe

__all__ = ["Recipe", "parse_recipe", "read_recipe"]
