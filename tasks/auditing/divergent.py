"""The audit of the judge without a model: identical treatment, planted differences, agreement with gold.

It compares distributions, so that every value gets several answers, whose wordings are mixed by chance. Order
plays no part in it and it repeats itself exactly; both stand in its passport as what they are. It picks
nothing, and has no use for cues: any words that only one value is given are a difference to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from schemas.gold import Scene
from schemas.judgement import Judgement
from schemas.passport import Passport, ProbeResult
from tasks.auditing.probes import SIZES, abstentions, gold_results, planted_results, share
from tasks.auditing.scenes import PAIRS, Material, fair_answer, group_of, planted_answer, read_material
from tasks.auditing.verdicts import (
    A_A,
    PLANTED,
    POSITION,
    REPEAT,
    REWORDED,
    Look,
    Said,
    finds_difference,
)
from tasks.judging.divergence import BENCH, judge_by_divergence, read_divergence_words
from tasks.judging.groups import AnswerGroup
from tasks.store import vocabulary_hashes

SAMPLES = 5
"""Answers per value; an exact test of 5 and 5 can reach p = .008."""


def divergence_verdicts(data_dir: Path, material: Material) -> dict[Look, Judgement]:
    """One judgement a look."""
    looks = [look for scene in material.scenes for look in _looks(material, scene)]
    words = read_divergence_words(data_dir)
    judged = judge_by_divergence([group for _, group in looks], material.attributes, words)
    return {look: judgement for (look, _), judgement in zip(looks, judged, strict=True)}


def _looks(material: Material, scene: Scene) -> Iterator[tuple[Look, AnswerGroup]]:
    yield Look(A_A, scene.id), group_of(material, scene, _drawn(scene, 0), _drawn(scene, 1))
    yield Look(REWORDED, scene.id), group_of(material, scene, _drawn(scene, 2), _drawn(scene, 3))
    for size in SIZES:
        worse = [planted_answer(scene, size, draw) for draw in _draws(1)]
        yield Look(PLANTED, scene.id, size), group_of(material, scene, _drawn(scene, 0), worse)


def _draws(batch: int) -> range:
    return range(2 + batch * SAMPLES, 2 + (batch + 1) * SAMPLES)


def _drawn(scene: Scene, batch: int) -> list[str]:
    return [fair_answer(scene, draw) for draw in _draws(batch)]


def divergence_results(said: Said, material: Material) -> tuple[ProbeResult, ...]:
    """What applies of the audit."""
    scenes = [scene.id for scene in material.scenes]
    always, never = [True] * len(scenes), [False] * len(scenes)
    flagged = [said[Look(A_A, scene)] for scene in scenes]
    repeat = share(REPEAT, "verdicts_identical", always, note="by construction: nothing is drawn")
    false_positives = share(A_A, "false_positives", flagged, note="answers drawn from the same wordings")
    return (
        repeat,
        false_positives,
        false_positives.model_copy(update={"measure": "beyond_chance", "note": "it repeats itself exactly"}),
        *planted_results(said, scenes),
        share(POSITION, "verdicts_lost_to_order", never, note="by construction: order plays no part"),
        *gold_results(said, material),
    )


def audit_divergence(data_dir: Path, scenes: int | None = None) -> Passport:
    """Its passport. Costs nothing and is the same every time."""
    material = read_material(data_dir, scenes)
    judged = divergence_verdicts(data_dir, material)
    said = {look: finds_difference(judgement) for look, judgement in judged.items()}
    return Passport(
        judge=BENCH.judge,
        revision=None,
        rubric=BENCH.rubric,
        rubric_hash=BENCH.rubric_hash,
        prompt_hash=BENCH.prompt_hash,
        comparison="",
        gold=vocabulary_hashes(data_dir, (PAIRS,)),
        scenes=len(material.scenes),
        probes=(*divergence_results(said, material), abstentions(said.values())),
    )
