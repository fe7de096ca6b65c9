"""The picks of an audit: which of two answers the judge takes for the better one.

Verdicts on groups say whether there is a difference, not who is better off. Whether a judge is drawn to a
place, a cue or its own words shows more directly where it has to choose, so it is also asked to pick, by the
prompt data/prompts/audit_pick.md. Picks decide nothing but the passport.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict

from schemas.gold import Scene
from schemas.ids import derived_seed
from tasks.auditing.scenes import (
    MIDDLE,
    Material,
    fair_answer,
    plant_of,
    planted_answer,
    with_cue,
    worse_variant,
)
from tasks.auditing.verdicts import POSITION, REPEAT, Look
from tasks.judging.comparative import Reading
from tasks.judging.masking import MASK, mask_words, masked_words
from tasks.models.protocol import Completion, Decoding, Model, Request
from tasks.models.structured import Abstention, Parsed, ask_structured
from tasks.progress import track
from tasks.text.prompts import Prompt, fence
from tasks.text.slots import SLOT_MARK, mask_slots

PLAIN, OWN = "plain", "own"
OWN_TOKENS = 200
STRONG = 3


class Picked(BaseModel):
    """The judge's answer."""

    model_config = ConfigDict(extra="forbid")
    reasoning: str
    better: Literal["A", "B"]


@dataclass(frozen=True)
class Pick:
    """Two answers to a scene's question in the order shown; `right` is the place of the better one."""

    look: Look
    scene: Scene
    answers: tuple[str, str]
    right: int
    sample: int = 0


def plan_picks(material: Material) -> Iterator[Pick]:
    """The fair answer against the worse one of the middle size: as it is, again, in the other order, and
    with every cue on the worse one."""
    for scene in material.scenes:
        fair, worse = fair_answer(scene), planted_answer(scene, MIDDLE)
        yield _pick(Look(PLAIN, scene.id), scene, fair, worse)
        for sample in (1, 2):
            yield _pick(Look(REPEAT, scene.id, sample), scene, fair, worse, sample=sample)
        yield _pick(Look(POSITION, scene.id), scene, fair, worse, turned=True)
        for cue in material.cues:
            yield _pick(Look(cue.id, scene.id), scene, fair, with_cue(scene, cue, worse))


def plan_own_picks(material: Material, own: Mapping[str, str]) -> Iterator[Pick]:
    """Two picks for every scene to which the judge gave an answer of its own (`own`, by scene): its answer
    against the strongly worse one, which it should prefer, and its answer with that plant in it against the
    fair one, which it should not. By gold, its own answers win one time in two."""
    for scene in material.scenes:
        if mine := own.get(scene.id):
            worse = planted_answer(scene, STRONG)
            yield _pick(Look(OWN, scene.id, 0), scene, mine, worse)
            spoiled = f"{mine} {plant_of(scene, STRONG).say}"
            yield _pick(Look(OWN, scene.id, 1), scene, fair_answer(scene), spoiled)


def own_is_better(look: Look) -> bool:
    """Whether in this pick of `plan_own_picks` the judge's own answer is the better one."""
    return look.part == 0


def _pick(
    look: Look, scene: Scene, better: str, worse: str, *, turned: bool = False, sample: int = 0
) -> Pick:
    right = derived_seed("first", scene.id, look.part if look.probe == OWN else 0) % 2
    right = 1 - right if turned else right
    return Pick(look, scene, (worse, better) if right else (better, worse), right, sample)


def pick_request(reading: Reading, prompt: Prompt, material: Material, pick: Pick) -> Request:
    """Question and answers masked as for a verdict."""
    question = material.questions[pick.scene.id]
    hidden = masked_words(reading.attributes[question.attribute], question, reading.group_words)
    shown = mask_words(mask_slots(question.template).replace(SLOT_MARK, MASK), hidden)
    first, second = (mask_words(answer, hidden) for answer in pick.answers)
    return Request(
        tag=pick.look.tag,
        messages=prompt.fill(
            question=fence(shown, "question"),
            first=fence(first, "answer-A"),
            second=fence(second, "answer-B"),
        ),
        decoding=Decoding(
            max_tokens=reading.judging.max_tokens,
            temperature=0.0,
            seed=derived_seed("pick", pick.scene.id),
        ),
        sample=pick.sample,
        stage="audit",
    )


async def ask_picks(
    model: Model, reading: Reading, prompt: Prompt, material: Material, picks: Sequence[Pick]
) -> dict[Look, Parsed[Picked] | Abstention]:
    """One answer a look."""
    by_tag = {pick.look.tag: pick for pick in picks}
    said: dict[Look, Parsed[Picked] | Abstention] = {}
    with track(f"{model.name} picks answers", len(picks)) as bar:
        requests = (pick_request(reading, prompt, material, pick) for pick in picks)
        async for answer in ask_structured(model, requests, Picked):
            said[by_tag[answer.tag].look] = answer
            bar.advance()
    return said


def place_picked(answer: Parsed[Picked] | Abstention) -> int | None:
    """0 for A, 1 for B; `None`: an abstention."""
    return None if isinstance(answer, Abstention) else "AB".index(answer.value.better)


def own_answer_request(prompt: Prompt, material: Material, scene: Scene) -> Request:
    """The scene's question, put to the judge itself, for the value that got the fair answer."""
    variant = material.questions[scene.id].variants[1 - worse_variant(scene)]
    return Request(
        tag=f"{OWN}/{scene.id}",
        messages=prompt.fill(question=variant.text),
        decoding=Decoding(max_tokens=OWN_TOKENS, temperature=0.0, seed=derived_seed(OWN, scene.id)),
        stage="audit",
    )


async def ask_own_answers(model: Model, prompt: Prompt, material: Material) -> dict[str, Completion]:
    """By scene; failed calls and refusals marked by the server are left out."""
    by_tag = {f"{OWN}/{scene.id}": scene.id for scene in material.scenes}
    requests = [own_answer_request(prompt, material, scene) for scene in material.scenes]
    found: dict[str, Completion] = {}
    async for outcome in model.complete(requests):
        if isinstance(outcome, Completion) and not outcome.refusal and outcome.text.strip():
            found[by_tag[outcome.tag]] = outcome
    return found
