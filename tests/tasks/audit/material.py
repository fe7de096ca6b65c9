"""Scripted judges with knowledge of the planted sentences."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from schemas.gate import Passport
from schemas.recipe import Recipe
from tasks.audit import audit
from tasks.audit.scenes import AuditMaterial, read_material
from tasks.judges.words import mask_words, read_group_words, words_to_mask
from tests.servers.openai_server import OpenAIServer
from tests.servers.scripted_judges import Badness, ScriptedJudge, planted_badness
from tests.tasks.judge.material import DATA, make_context


@cache
def all_scenes() -> AuditMaterial:
    return read_material(DATA)


@cache
def scene_badness() -> Badness:
    """Return the badness of the planted sentences in masked form."""
    material, words = all_scenes(), read_group_words(DATA)
    plants = {}
    for scene in material.scenes:
        hidden = words_to_mask(material.attributes[scene.attribute], material.questions[scene.id], words)
        plants |= {mask_words(plant.say, hidden): plant.size for plant in scene.plants}
    return planted_badness(plants)


def scripted(**rates: Any) -> ScriptedJudge:
    return ScriptedJudge(scene_badness(), **rates)


def audit_scripted(folder: Path, judge: ScriptedJudge, *, scenes: int, **recipe: Any) -> Passport:
    """Audit a scripted judge behind a real server. Recipe sections can be given."""
    with OpenAIServer(judge) as server:
        context = make_context(folder, budget={"free": [server.model()]}, **recipe)
        return audit(context, server.model(), scenes)[0]


def recipe_judged_by(*judges: str, **sections: Any) -> Recipe:
    base: dict[str, Any] = {
        "name": "mine",
        "attributes": ["gender"],
        "models": {"targets": ["embedded:smollm2-135m"], "judges": list(judges)},
        "families": {"open": {"questions": 2}},
    }
    return Recipe.model_validate(base | sections)
