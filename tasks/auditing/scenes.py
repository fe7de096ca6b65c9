"""What a judge is shown in an audit: scenes of data/gold made into groups and pairs of answers.

A scene has one fair answer, whose sentences exist in two wordings, and three worse ones. Which wording stands
where, which value gets the worse answer, and which cue sentence is used, is drawn from the scene's id, so
that every judge sees the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from schemas.attribute import Attribute
from schemas.errors import InputError
from schemas.gold import BiasPairs, Cue, Cues, Plant, Scene
from schemas.ids import derived_seed
from schemas.question import Question
from schemas.response import text_answer
from tasks.formats.vocabulary import read_attributes
from tasks.formats.yaml_file import read_yaml
from tasks.judging.groups import AnswerGroup
from tasks.text.questions import Draft, bind_draft

PAIRS, CUES = "gold/bias_pairs.yaml", "gold/cues.yaml"
MIDDLE = 2
"""The size of plant that cues, order and repetition are tried on."""
TARGET = "audit"
FEWEST = 8


@dataclass(frozen=True)
class Material:
    """Everything that an audit shows."""

    scenes: tuple[Scene, ...]
    cues: tuple[Cue, ...]
    attributes: Mapping[str, Attribute]

    @cached_property
    def questions(self) -> dict[str, Question]:
        """By scene."""
        return {scene.id: _question(scene, self.attributes[scene.attribute]) for scene in self.scenes}


def read_material(data_dir: Path, scenes: int | None = None) -> Material:
    """From data/gold; the first so many scenes in an order drawn by content, which mixes kinds and
    attributes. Raises `InputError` for fewer than 8, or where a file is inconsistent."""
    pairs = read_yaml(data_dir / PAIRS, BiasPairs)
    _check(pairs, data_dir / PAIRS)
    if scenes is not None and scenes < FEWEST:
        raise InputError(f"{scenes} scenes say nothing about a judge", hint=f"take {FEWEST} at least")
    drawn = sorted(pairs.items, key=lambda scene: derived_seed("scene", scene.id))[:scenes]
    attributes = read_attributes(data_dir, (scene.attribute for scene in drawn))
    cues = read_yaml(data_dir / CUES, Cues).cues
    return Material(tuple(drawn), cues, {attribute.id: attribute for attribute in attributes})


def _check(pairs: BiasPairs, path: Path) -> None:
    seen: set[str] = set()
    for scene in pairs.items:
        if scene.id in seen:
            raise InputError(f"the scene {scene.id!r} stands twice", place=str(path))
        seen.add(scene.id)
        if [plant.size for plant in scene.plants] != [1, 2, 3]:
            raise InputError(f"{scene.id}: plants must have the sizes 1, 2, 3 in order", place=str(path))


def _question(scene: Scene, attribute: Attribute) -> Question:
    draft = Draft(
        text=scene.question,
        family="open",
        superdomain=TARGET,
        domain=scene.kind,
        topic=scene.id,
        origin="template",
        template_id=scene.id,
    )
    return bind_draft(draft, attribute, seed=0, values=scene.values)


def fair_sentences(scene: Scene, draw: int) -> list[str]:
    """The fair answer, sentence by sentence. Draw 0 has one wording of each, draw 1 the other; any other draw
    mixes them by chance."""
    if draw in (0, 1):
        picks = [(_coin("wording", scene.id, i) + draw) % 2 for i in range(len(scene.fair))]
    else:
        picks = [_coin("wording", scene.id, i, draw) for i in range(len(scene.fair))]
    return [wordings[pick] for wordings, pick in zip(scene.fair, picks, strict=True)]


def fair_answer(scene: Scene, draw: int = 0) -> str:
    return " ".join(fair_sentences(scene, draw))


def planted_answer(scene: Scene, size: int, draw: int = 1) -> str:
    """The worse answer of that size; what it keeps of the fair one stands in the other wording."""
    plant = plant_of(scene, size)
    return " ".join([*fair_sentences(scene, draw)[: plant.keep], plant.say])


def plant_of(scene: Scene, size: int) -> Plant:
    return scene.plants[size - 1]


def with_cue(scene: Scene, cue: Cue, answer: str) -> str:
    """The answer with one of the cue's sentences before or behind it."""
    said = cue.sentences[derived_seed("cue", cue.id, scene.id) % len(cue.sentences)]
    return f"{said} {answer}" if cue.place == "start" else f"{answer} {said}"


def group_of(material: Material, scene: Scene, fair: Sequence[str], other: Sequence[str]) -> AnswerGroup:
    """One value got the `fair` answers, the value drawn for the scene the `other` ones."""
    question = material.questions[scene.id]
    worse = worse_variant(scene)
    answers = tuple(
        tuple(
            text_answer(question, index, k, text, model=TARGET)
            for k, text in enumerate(other if index == worse else fair)
        )
        for index in range(len(question.variants))
    )
    return AnswerGroup(question, TARGET, "search", answers)


def worse_variant(scene: Scene) -> int:
    """Index of the variant that gets the other answer."""
    return _coin("worse", scene.id)


def _coin(*parts: object) -> int:
    return derived_seed(*parts) % 2
