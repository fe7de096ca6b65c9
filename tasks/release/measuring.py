"""The recipe of a release, as far as it may be used again.

A release may be downloaded, so its recipe defines only the measurement. Models, endpoints, keys,
limits, budgets, engine options and paths come from the command line or from a recipe of the user.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from schemas.errors import InputError
from schemas.recipe import Recipe
from schemas.release import Manifest
from tasks.text.printable import printable

MEASURING: tuple[str, ...] = (
    "name",
    "title",
    "description",
    "seed",
    "attributes",
    "superdomains",
    "families",
    "selection",
    "evolve",
    "judging",
    "controls",
    "holdout",
    "relabel",
    "deduplicate",
)
"""Sections that define a measurement. All other sections of a released recipe are information only."""
INFORMATION_ONLY: dict[str, tuple[str, ...]] = {
    "relabel": ("files",),
    "deduplicate": ("against", "semantic"),
}
"""Keys of these sections that name paths, models or endpoints."""
FAMILY_INFORMATION_ONLY = ("files",)
PERSONAL = ("api_keys", "limits", "model_limits", "validate", "budget")
"""Sections that are taken from a recipe of the user."""
RECORDED = ("review", "validate", "release")
"""Further sections that a corrected release records. They name no path, and cost nothing."""
RECORDED_MODELS = (
    "generator",
    "targets",
    "holdout_targets",
    "judges",
    "adjudicator",
    "relabel_judges",
    "may_share_family",
)
ALL_SECTIONS = frozenset(field.alias or name for name, field in Recipe.model_fields.items())
RULE_JUDGE = "divergence"
"""The judge that is a rule of this program. All others are models."""
NO_TARGET = "replay:recorded-answers"
"""Target of a recipe with existing answers. The schema demands one, and this one is never asked."""


def measuring_sections(manifest: Manifest) -> dict[str, Any]:
    """Return the sections of the recipe that define the measurement, without paths, models and endpoints."""
    content = {name: manifest.recipe[name] for name in MEASURING if name in manifest.recipe}
    for section, keys in INFORMATION_ONLY.items():
        if section in content:
            content[section] = {k: v for k, v in content[section].items() if k not in keys}
    content["families"] = {
        family: {k: v for k, v in settings.items() if k not in FAMILY_INFORMATION_ONLY}
        for family, settings in content.get("families", {}).items()
    }
    return content


def measuring_recipe(
    manifest: Manifest, models: dict[str, Any], *, own: Recipe | None = None, free: Sequence[str] = ()
) -> Recipe:
    """Return a recipe that measures like the release.

    Args:
        manifest: The release. Only its `measuring_sections` are used.
        models: The models of the section `models`, from the command line or from a recipe of the user.
        own: A recipe of the user. Its keys, limits, free models and engine options apply.
        free: Further models without cost, from the command line.

    Raises:
        InputError: If the measuring sections are not valid in this version of the program.
    """
    content = measuring_sections(manifest)
    content["evolve"] = content.get("evolve", {}) | {"rounds": 0}
    content["models"] = models
    if own is not None:
        personal = own.model_dump(mode="json", by_alias=True)
        content |= {name: personal[name] for name in PERSONAL}
        used = {name for value in models.values() for name in (value if isinstance(value, list) else [value])}
        content["models"] = {
            "engine": personal["models"]["engine"],
            "may_share_family": own.models.may_share_family,
            "batch": [name for name in own.models.batch if name in used],
        } | models
    known_free = own.budget.free if own is not None else ()
    content["budget"] = {"usd": 0.0, "free": [*known_free, *free]}
    return _parse(content, manifest)


def recorded_recipe(manifest: Manifest) -> Recipe:
    """Return the recipe that a corrected release records: the measurements, and the names of the models.

    Keys, limits, budgets, free models, engine options and paths are left out. No model may be opened because
    of it.

    Raises:
        InputError: If it is not valid in this version of the program.
    """
    unknown = {name: value for name, value in manifest.recipe.items() if name not in ALL_SECTIONS}
    content = unknown | measuring_sections(manifest)
    content |= {name: manifest.recipe[name] for name in RECORDED if name in manifest.recipe}
    if isinstance(content.get("validate"), dict):  # `suites` names files of the person who built the release
        content["validate"] = {k: v for k, v in content["validate"].items() if k != "suites"}
    models = manifest.recipe.get("models", {})
    content["models"] = {name: value for name, value in models.items() if name in RECORDED_MODELS}
    return _parse(content, manifest)


def choose_judges(manifest: Manifest, chosen: Sequence[str], own: Recipe | None) -> dict[str, Any]:
    """Return the judges of a new measurement: from the command line, or else from a recipe of the user.

    The judges of the release are used only if no model is among them.

    Raises:
        InputError: If a model judged the release and the user has named no judge.
    """
    if chosen:
        return {"judges": list(chosen), "adjudicator": None}
    if own is not None:
        return {"judges": list(own.models.judges), "adjudicator": own.models.adjudicator}
    models = stored_judges(manifest)
    if models and "open" in manifest.recipe.get("families", {}):
        flags = " ".join(f"--judge {shlex.quote(printable(name))}" for name in models)
        raise InputError(
            f"{manifest.name} {manifest.version} was judged by a model: "
            + ", ".join(printable(name) for name in models),
            hint=f"choose the judge yourself. To use the same one, add {flags}. `--judge {RULE_JUDGE}` needs "
            "no model, and `--recipe` takes the judges of a recipe of yours",
        )
    return {"judges": [RULE_JUDGE], "adjudicator": None}


def stored_judges(manifest: Manifest) -> list[str]:
    """Return the models that the recipe of a release names as judges, the adjudicator last."""
    section = manifest.recipe.get("models", {})
    judges = section.get("judges", [])
    named = [*(judges if isinstance(judges, list) else [judges]), section.get("adjudicator")]
    return list(dict.fromkeys(str(name) for name in named if name is not None and name != RULE_JUDGE))


def stored_form_judges(manifest: Manifest) -> list[str]:
    """Return judges that decide by the same form of fitness as those of the release. They are never asked."""
    return ["replay:recorded-verdicts"] if stored_judges(manifest) else [RULE_JUDGE]


def _parse(content: dict[str, Any], manifest: Manifest) -> Recipe:
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        faults = [
            f"{'.'.join(map(str, fault['loc'])) or 'recipe'}: {fault['msg'].removeprefix('Value error, ')}"
            for fault in error.errors(include_url=False)[:10]
        ]
        raise InputError(
            "the recipe in the manifest is not valid for this version of counterfoil:\n"
            + "\n".join(f"  {printable(fault)}" for fault in faults),
            place=f"{manifest.name} {manifest.version}",
            hint=f"the release was written by counterfoil {printable(manifest.counterfoil_version)}. "
            "`counterfoil diff` and `counterfoil verify` read it",
        ) from None
