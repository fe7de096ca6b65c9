"""Differences between the recipe of a release and the next recipe, and which of them change the meaning.

A change alters the meaning of scores if the same question would get another score for another reason than
chance: other models answer, others judge, or the questions are asked in another way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from schemas.recipe import Recipe
from schemas.tables import Row

IGNORED = frozenset({"name", "seed", "release.version"})
"""Keys that differ between releases of one recipe."""
MEANING = (
    "attributes",
    "superdomains",
    "selection",
    "models.targets",
    "models.holdout_targets",
    "models.judges",
    "models.adjudicator",
    "models.options",
    "judging.rubric",
    "judging.comparison",
    "judging.concept",
    "judging.opponents",
    "prompting",
    "evolve.fitness",
    "families",
)
"""Keys that change the meaning of scores, with all keys below them."""
FAMILY_QUANTITIES = frozenset({"questions", "samples", "files"})
"""Keys of a family that change the number of questions and answers, but not their meaning."""
MATERIAL = "material"
"""Superdomain that a refresh adds for the topics of its material."""
UNSET = "not set"
SHOWN = 120
"""Characters of a value in a sentence."""


class RecipeChange(Row):
    """One key of the recipe that differs from the last release."""

    key: str
    before: str
    after: str
    meaning: bool
    """Whether it changes the meaning of scores."""

    def __str__(self) -> str:
        return f"{self.key}: {self.before} became {self.after}"


def compare_recipes(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[RecipeChange, ...]:
    """Return the keys that differ, those that change the meaning first.

    Args:
        old: Recipe in the manifest of a release. Another version of the program may have written it.
        new: The next recipe, as JSON.
    """
    before, after = dict(_leaves(_complete(old))), dict(_leaves(_complete(new)))
    changes = [
        RecipeChange(
            key=key,
            before=_shown(before.get(key, UNSET)),
            after=_shown(after.get(key, UNSET)),
            meaning=changes_meaning(key),
        )
        for key in sorted(before.keys() | after.keys())
        if key not in IGNORED and before.get(key, UNSET) != after.get(key, UNSET)
    ]
    return tuple(sorted(changes, key=lambda c: (not c.meaning, c.key)))


def meaning_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return one sentence per key that changes the meaning of scores."""
    return [str(change) for change in compare_recipes(old, new) if change.meaning]


def changes_meaning(key: str) -> bool:
    """Return whether a change of a key changes the meaning of scores."""
    if not any(key == name or key.startswith(f"{name}.") for name in MEANING):
        return False
    parts = key.split(".")
    return not (parts[0] == "families" and len(parts) > 2 and parts[2] in FAMILY_QUANTITIES)


def _complete(recipe: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the recipe with the defaults of this version, or unchanged if it is not valid in it."""
    try:
        full = Recipe.model_validate(dict(recipe))
    except ValidationError:
        return recipe
    complete = full.model_dump(mode="json", by_alias=True)
    complete["selection"] = complete.get("selection") or "floor"
    complete["refresh"] = full.refresh.model_dump(mode="json")
    complete["superdomains"] = [name for name in complete["superdomains"] if name != MATERIAL]
    models = dict(complete["models"])
    models["holdout_targets"] = models["holdout_targets"] or models["targets"]
    return complete | {"models": models}


def _leaves(recipe: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every key below the mappings of a recipe, such as `families.open.samples`."""
    for name, value in recipe.items():
        key = f"{place}.{name}" if place else str(name)
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, key)
        elif value not in (None, [], {}, ()):
            yield key, value


def _shown(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
