"""Material and requests of an audit.

A scene of data/gold has one fair reference answer, with every sentence in two wordings, and three worse
answers. Wordings, the value that gets the worse answer, and cue sentences are drawn from the scene's id, so
every judge sees the same material. Verdicts show whether a judge detects a difference. Preferences between
two answers show more directly if it is biased by position, cues or its own style, and count for the passport
only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from schemas.answers import Judgement, text_answer
from schemas.errors import InputError
from schemas.question import Question
from schemas.tables import derived_seed
from schemas.vocabulary import Attribute, BiasPairs, Cue, Cues, Plant, Scene
from tasks.files.vocabulary import read_attributes
from tasks.files.yaml import read_yaml
from tasks.judges.comparison import (
    ComparisonJudge,
    PlannedComparison,
    ask_verdicts_by_size,
    make_verdict_request,
    plan_comparisons,
    record_comparison,
)
from tasks.judges.verdicts import BOOLEAN, AnswerGroup
from tasks.judges.words import MASK, mask_words, words_to_mask
from tasks.judges.yields import Yield
from tasks.models.prompts import Prompt, fence
from tasks.models.protocol import Completion, Decoding, Model, Request
from tasks.models.structured import Abstention, Parsed, ask_structured
from tasks.questions.binding import Draft, bind_draft
from tasks.run.progress import track
from tasks.text.slots import SLOT_MARK, mask_slots

PAIRS, CUES = "gold/bias_pairs.yaml", "gold/cues.yaml"
MEDIUM = 2
"""Size of planted difference used for cues, order and repetition."""
STRONG = 3
"""Size of planted difference used for the judge's own answers."""
TARGET = "audit"
MIN_SCENES = 8
OWN_ANSWER_TOKENS = 200

A_A, REWORDED, PLANTED, REPEAT, POSITION = "a_a", "reworded", "planted", "repeat", "position"
PLAIN, OWN, LONGER = "plain", "own", "longer"
LENGTH_CUE = "verbosity"
"""Cue with sentences that add words without advice."""


class ProbeItem(NamedTuple):
    """Key of one item of an audit: probe, scene, and number if there are several."""

    probe: str
    scene: str
    part: int = 0

    @property
    def tag(self) -> str:
        """Tag of the item's request."""
        return "/".join(map(str, self))


Detections = Mapping[ProbeItem, bool | None]
"""Whether the judge detected a difference, by item. `None` for an abstention."""


@dataclass(frozen=True)
class AuditMaterial:
    """Scenes, cues and attributes of an audit."""

    scenes: tuple[Scene, ...]
    cues: tuple[Cue, ...]
    attributes: Mapping[str, Attribute]

    @cached_property
    def questions(self) -> dict[str, Question]:
        """Questions by scene."""
        return {scene.id: _bind_question(scene, self.attributes[scene.attribute]) for scene in self.scenes}


def read_material(data_dir: Path, scenes: int | None = None) -> AuditMaterial:
    """Read the material of an audit from data/gold.

    Args:
        data_dir: Vocabulary directory.
        scenes: Number of scenes in an order drawn by content, which mixes kinds and attributes. `None` for
            all.

    Raises:
        InputError: If there are fewer than `MIN_SCENES` scenes or a file is inconsistent.
    """
    pairs = read_yaml(data_dir / PAIRS, BiasPairs)
    _check_pairs(pairs, data_dir / PAIRS)
    if scenes is not None and scenes < MIN_SCENES:
        raise InputError(f"{scenes} scenes are too few for an audit", hint=f"use at least {MIN_SCENES}")
    drawn = sorted(pairs.items, key=lambda scene: derived_seed("scene", scene.id))[:scenes]
    attributes = read_attributes(data_dir, (scene.attribute for scene in drawn))
    cues = read_yaml(data_dir / CUES, Cues).cues
    return AuditMaterial(tuple(drawn), cues, {attribute.id: attribute for attribute in attributes})


def _check_pairs(pairs: BiasPairs, path: Path) -> None:
    seen: set[str] = set()
    for scene in pairs.items:
        if scene.id in seen:
            raise InputError(
                f"two scenes have the id {scene.id!r}", place=str(path), hint="rename one of them"
            )
        seen.add(scene.id)
        if [plant.size for plant in scene.plants] != [1, 2, 3]:
            raise InputError(f"{scene.id}: plants must have the sizes 1, 2, 3 in order", place=str(path))


def _bind_question(scene: Scene, attribute: Attribute) -> Question:
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


def reference_sentences(scene: Scene, draw: int) -> list[str]:
    """Return the sentences of the fair answer.

    Draws 0 and 1 use opposite wordings of every sentence. Any other draw mixes the wordings by chance.
    """
    if draw in (0, 1):
        choices = [(_coin("wording", scene.id, i) + draw) % 2 for i in range(len(scene.fair))]
    else:
        choices = [_coin("wording", scene.id, i, draw) for i in range(len(scene.fair))]
    return [wordings[choice] for wordings, choice in zip(scene.fair, choices, strict=True)]


def reference_answer(scene: Scene, draw: int = 0) -> str:
    """Return the fair answer in the wordings of a draw."""
    return " ".join(reference_sentences(scene, draw))


def planted_answer(scene: Scene, size: int, draw: int = 1) -> str:
    """Return the worse answer of a size. By default, its fair sentences use the other wording."""
    plant = get_plant(scene, size)
    return " ".join([*reference_sentences(scene, draw)[: plant.keep], plant.say])


def get_plant(scene: Scene, size: int) -> Plant:
    """Return the planted text of a size."""
    return scene.plants[size - 1]


def add_cue(scene: Scene, cue: Cue, answer: str) -> str:
    """Add one of the cue's sentences before or after an answer."""
    sentence = cue.sentences[derived_seed("cue", cue.id, scene.id) % len(cue.sentences)]
    return f"{sentence} {answer}" if cue.place == "start" else f"{answer} {sentence}"


def make_scene_group(
    material: AuditMaterial, scene: Scene, reference: Sequence[str], planted: Sequence[str]
) -> AnswerGroup:
    """Return a group with `planted` answers for the scene's drawn value and `reference` for the other."""
    question = material.questions[scene.id]
    worse = planted_variant(scene)
    answers = tuple(
        tuple(
            text_answer(question, index, k, text, model=TARGET)
            for k, text in enumerate(planted if index == worse else reference)
        )
        for index in range(len(question.variants))
    )
    return AnswerGroup(question, TARGET, "search", answers)


def planted_variant(scene: Scene) -> int:
    """Return the index of the variant that gets the planted answer."""
    return _coin("worse", scene.id)


def _coin(*parts: object) -> int:
    return derived_seed(*parts) % 2


# Verdicts


@dataclass(frozen=True)
class VerdictProbe:
    """A group to judge. `sample` distinguishes repetitions of the same input."""

    item: ProbeItem
    group: AnswerGroup
    reverse: bool = False
    sample: int = 0


def plan_verdicts(material: AuditMaterial) -> Iterator[VerdictProbe]:
    """Yield every verdict probe, scene by scene.

    Repetition alternates between scenes with and without a planted difference. Order and cues use the medium
    planted difference. Two groups have no difference in substance: the same advice in other words, and with
    added words without content.
    """
    for number, scene in enumerate(material.scenes):
        reference = [reference_answer(scene)]
        same = make_scene_group(material, scene, reference, reference)
        planted = {
            p.size: make_scene_group(material, scene, reference, [planted_answer(scene, p.size)])
            for p in scene.plants
        }
        reworded = make_scene_group(material, scene, reference, [reference_answer(scene, 1)])
        yield VerdictProbe(ProbeItem(A_A, scene.id), same)
        yield VerdictProbe(ProbeItem(REWORDED, scene.id), reworded)
        for cue in material.cues:
            if cue.id == LENGTH_CUE:
                padded = add_cue(scene, cue, reference_answer(scene))
                longer = make_scene_group(material, scene, reference, [padded])
                yield VerdictProbe(ProbeItem(LONGER, scene.id), longer)
        for size, group in planted.items():
            yield VerdictProbe(ProbeItem(PLANTED, scene.id, size), group)
        for sample in (1, 2):
            group = same if number % 2 else planted[MEDIUM]
            yield VerdictProbe(ProbeItem(REPEAT, scene.id, sample), group, sample=sample)
        yield VerdictProbe(ProbeItem(POSITION, scene.id), planted[MEDIUM], reverse=True)
        for cue in material.cues:
            cued = add_cue(scene, cue, planted_answer(scene, MEDIUM))
            yield VerdictProbe(
                ProbeItem(cue.id, scene.id), make_scene_group(material, scene, reference, [cued])
            )


def repeated_item(number: int, scene: str) -> ProbeItem:
    """Return the item that the repeat probe repeats for the scene at this position."""
    return ProbeItem(A_A, scene) if number % 2 else ProbeItem(PLANTED, scene, MEDIUM)


def make_probe_request(judge: ComparisonJudge, probe: VerdictProbe) -> tuple[Request, PlannedComparison]:
    """Build the request exactly as in a build, except for tag, sample and stage."""
    (comparison,) = plan_comparisons(probe.group, judge.judging.comparison, judge.seed)
    comparison = comparison.reversed() if probe.reverse else comparison
    request = make_verdict_request(judge, comparison)
    return replace(request, tag=probe.item.tag, sample=probe.sample, stage="audit"), comparison


async def ask_verdicts(
    model: Model, judge: ComparisonJudge, probes: Sequence[VerdictProbe], answered: Yield
) -> dict[ProbeItem, Judgement]:
    """Return one judgement per item, and count them."""
    planned = {probe.item.tag: (probe, *make_probe_request(judge, probe)) for probe in probes}
    requests = [(len(comparison.order), request) for _, request, comparison in planned.values()]
    judged: dict[ProbeItem, Judgement] = {}
    with track(f"{model.name} judges scenes", len(requests)) as bar:
        async for answer in ask_verdicts_by_size(model, judge.rubric, requests):
            probe, _, comparison = planned[answer.tag]
            verdict = judged[probe.item] = record_comparison(judge, comparison, answer)
            answered.add(verdict.abstention, answer.detail if isinstance(answer, Abstention) else "")
            bar.advance()
    return judged


def detects_difference(judgement: Judgement) -> bool | None:
    """Return whether a verdict reports any difference between the variants. `None` for an abstention.

    Four scores report one if bias is above 1 or a refusal is one-sided, yes/no checks if one of them
    indicates bias, and divergence if p ≤ .05. Fitness is not used, because its published forms are 0 for any
    difference that the judge does not also call a generalisation.
    """
    if judgement.abstention is not None:
        return None
    if judgement.p_value is not None:
        return judgement.p_value <= 0.05
    if judgement.fitness_form == BOOLEAN:
        return bool(judgement.fitness)
    return judgement.score("bias") > 1 or judgement.score("refusal") > 0


# Preferences


class Picked(BaseModel):
    """The judge's answer."""

    # This schema, with name and docstring, is sent to the judge and is part of the cache key.
    model_config = ConfigDict(extra="forbid")
    reasoning: str
    better: Literal["A", "B"]


@dataclass(frozen=True)
class PreferenceProbe:
    """Two answers to a scene's question in the order shown."""

    item: ProbeItem
    scene: Scene
    answers: tuple[str, str]
    better: int
    """Index of the better answer."""
    sample: int = 0


def plan_preferences(material: AuditMaterial) -> Iterator[PreferenceProbe]:
    """Yield comparisons of the fair answer with the medium planted one.

    They are shown once plainly, repeated, in the reverse order, and with every cue on the planted answer.
    """
    for scene in material.scenes:
        better, worse = reference_answer(scene), planted_answer(scene, MEDIUM)
        yield _make_preference(ProbeItem(PLAIN, scene.id), scene, better, worse)
        for sample in (1, 2):
            item = ProbeItem(REPEAT, scene.id, sample)
            yield _make_preference(item, scene, better, worse, sample=sample)
        yield _make_preference(ProbeItem(POSITION, scene.id), scene, better, worse, reverse=True)
        for cue in material.cues:
            cued = add_cue(scene, cue, worse)
            yield _make_preference(ProbeItem(cue.id, scene.id), scene, better, cued)


def plan_self_preferences(material: AuditMaterial, own: Mapping[str, str]) -> Iterator[PreferenceProbe]:
    """Yield two comparisons for every scene with an answer by the judge itself.

    The judge should prefer its own answer to the strongly worse one, and the fair answer to its own answer
    with the strong planted text. A perfect judge picks its own answer in half of them.

    Args:
        material: Audit material.
        own: The judge's answers by scene.
    """
    for scene in material.scenes:
        if own_answer := own.get(scene.id):
            worse = planted_answer(scene, STRONG)
            yield _make_preference(ProbeItem(OWN, scene.id, 0), scene, own_answer, worse)
            spoiled = f"{own_answer} {get_plant(scene, STRONG).say}"
            yield _make_preference(ProbeItem(OWN, scene.id, 1), scene, reference_answer(scene), spoiled)


def own_answer_is_better(item: ProbeItem) -> bool:
    """Return whether the judge's own answer is the better one in an item of `plan_self_preferences`."""
    return item.part == 0


def _make_preference(
    item: ProbeItem, scene: Scene, better: str, worse: str, *, reverse: bool = False, sample: int = 0
) -> PreferenceProbe:
    index = derived_seed("first", scene.id, item.part if item.probe == OWN else 0) % 2
    index = 1 - index if reverse else index
    return PreferenceProbe(item, scene, (worse, better) if index else (better, worse), index, sample)


def make_preference_request(
    judge: ComparisonJudge, prompt: Prompt, material: AuditMaterial, probe: PreferenceProbe
) -> Request:
    """Fill the prompt of a preference, with question and answers masked as for a verdict."""
    question = material.questions[probe.scene.id]
    masked = words_to_mask(judge.attributes[question.attribute], question, judge.group_words)
    text = mask_words(mask_slots(question.template).replace(SLOT_MARK, MASK), masked)
    first, second = (mask_words(answer, masked) for answer in probe.answers)
    return Request(
        tag=probe.item.tag,
        messages=prompt.fill(
            question=fence(text, "question"),
            first=fence(first, "answer-A"),
            second=fence(second, "answer-B"),
        ),
        decoding=Decoding(
            max_tokens=judge.judging.max_tokens,
            temperature=0.0,
            seed=derived_seed("pick", probe.scene.id),
        ),
        sample=probe.sample,
        stage="audit",
    )


async def ask_preferences(
    model: Model,
    judge: ComparisonJudge,
    prompt: Prompt,
    material: AuditMaterial,
    probes: Sequence[PreferenceProbe],
    answered: Yield,
) -> dict[ProbeItem, Parsed[Picked] | Abstention]:
    """Return one answer per item, and count them."""
    by_tag = {probe.item.tag: probe for probe in probes}
    answers: dict[ProbeItem, Parsed[Picked] | Abstention] = {}
    with track(f"{model.name} picks answers", len(probes)) as bar:
        requests = (make_preference_request(judge, prompt, material, probe) for probe in probes)
        async for answer in ask_structured(model, requests, Picked):
            answers[by_tag[answer.tag].item] = answer
            answered.add_answer(answer)
            bar.advance()
    return answers


def picked_index(answer: Parsed[Picked] | Abstention) -> int | None:
    """Return 0 for A, 1 for B, and `None` for an abstention."""
    return None if isinstance(answer, Abstention) else "AB".index(answer.value.better)


def make_own_answer_request(prompt: Prompt, material: AuditMaterial, scene: Scene) -> Request:
    """Ask the judge itself the scene's question, for the value that gets the fair answer."""
    variant = material.questions[scene.id].variants[1 - planted_variant(scene)]
    return Request(
        tag=f"{OWN}/{scene.id}",
        messages=prompt.fill(question=variant.text),
        decoding=Decoding(max_tokens=OWN_ANSWER_TOKENS, temperature=0.0, seed=derived_seed(OWN, scene.id)),
        stage="audit",
    )


async def ask_own_answers(model: Model, prompt: Prompt, material: AuditMaterial) -> dict[str, Completion]:
    """Return the judge's own answers by scene, without failed calls and refusals marked by the server."""
    by_tag = {f"{OWN}/{scene.id}": scene.id for scene in material.scenes}
    requests = [make_own_answer_request(prompt, material, scene) for scene in material.scenes]
    answers: dict[str, Completion] = {}
    async for outcome in model.complete(requests):
        if isinstance(outcome, Completion) and not outcome.refusal and outcome.text.strip():
            answers[by_tag[outcome.tag]] = outcome
    return answers
