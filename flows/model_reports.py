"""Report the capabilities of model servers, for `counterfoil models`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from flows.options import fetch_copy
from flows.workspace import open_workspace, read_recipe
from schemas.errors import InputError, ModelError
from schemas.options import ModelsOptions
from schemas.recipe import Budget, Family, Models, Recipe
from tasks.models import ModelSettings, run_async
from tasks.models.probe import probe_models


def run_models(options: ModelsOptions) -> dict[str, Any]:
    """Return the fields of `models --json`: one entry per model of a recipe, or of the model given."""
    is_recipe = options.model.endswith((".yaml", ".yml"))
    recipe = _recipe_of(fetch_copy(options.model) if is_recipe else options.model)
    context = open_workspace().context(recipe)
    settings = ModelSettings.of(context)
    reports = run_async(probe_models(recipe.every_model(), settings, send=options.probe))
    return {"models": [{**asdict(report), "problems": list(report.problems)} for report in reports]}


def require_usable(options: ModelsOptions, result: dict[str, Any]) -> None:
    """Raise `ModelError` if a model cannot be used."""
    unusable = [entry for entry in result["models"] if not entry["usable"]]
    if unusable:
        raise ModelError(
            f"{len(unusable)} of {len(result['models'])} models cannot be used",
            place=", ".join(entry["name"] for entry in unusable),
            hint=unusable[0]["problems"][0],
        )


def _recipe_of(given: str) -> Recipe:
    """Return the recipe of this path, or one that names only this model."""
    if Path(given).suffix in (".yaml", ".yml") or Path(given).is_file():
        return read_recipe(Path(given))
    if ":" not in given:
        raise InputError(
            f"{given} is neither a recipe nor a model",
            hint="name a recipe such as data/recipes/quickstart.yaml, or a model such as openai:gpt-5-mini",
        )
    return Recipe(
        name="models",
        attributes=("gender",),
        models=Models(targets=(given,)),
        families={"open": Family()},
        budget=Budget(free=(given,)),  # without a recipe there is no budget, so its price is not needed
    )
