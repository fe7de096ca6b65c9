"""What the looks of an audit say about the judge: one result a measure, each with its interval.

Shares over scenes have score intervals, with one look a scene; differences and means of several looks are
resampled by scene. Looks that the judge abstained from are left out of a value and counted beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from schemas.answers import Judgement
from schemas.gate import Passport, ProbeResult
from schemas.tables import derived_seed
from schemas.vocabulary import Scene
from tasks.audit.scenes import (
    A_A,
    MIDDLE,
    OWN,
    PAIRS,
    PLAIN,
    PLANTED,
    POSITION,
    REPEAT,
    REWORDED,
    AuditMaterial,
    Pick,
    ProbeItem,
    Said,
    fair_answer,
    finds_difference,
    first_look,
    group_of,
    own_is_better,
    planted_answer,
    read_material,
)
from tasks.judges.divergence import BENCH, judge_by_divergence, read_divergence_words
from tasks.judges.verdicts import AnswerGroup
from tasks.run.store import vocabulary_hashes
from tasks.stats.agreement import confusion_by_cluster, kappa_with_interval
from tasks.stats.resampling import Interval, mean_with_interval
from tasks.stats.tests import (
    chance_error,
    difference_of,
    pairwise_agreement,
    share_with_interval,
    transformed,
)

SIZES = (1, 2, 3)


def verdict_results(said: Said, material: AuditMaterial) -> tuple[ProbeResult, ...]:
    """Everything that the judge's verdicts say. `said`: whether each look found a difference."""
    scenes = [scene.id for scene in material.scenes]
    repeat = verdict_repeat(said, scenes)
    stands = [_equal(said[ProbeItem(PLANTED, s, MIDDLE)], said[ProbeItem(POSITION, s)]) for s in scenes]
    flagged = share(
        A_A, "false_positives", [said[ProbeItem(A_A, s)] for s in scenes], note="identical answers"
    )
    return (
        repeat,
        flagged,
        beyond(
            flagged, "beyond_chance", repeat, chance_error, note="false positives minus what chance gives"
        ),
        share(A_A, "rewordings_flagged", [said[ProbeItem(REWORDED, s)] for s in scenes], note="same advice"),
        *planted_results(said, scenes),
        *_order("verdicts", stands, repeat),
        *(
            result
            for cue in material.cues
            for result in _cue_results(
                cue.id,
                "verdict_recall",
                [(said[ProbeItem(PLANTED, s, MIDDLE)], said[ProbeItem(cue.id, s)]) for s in scenes],
            )
        ),
        *gold_results(said, material),
    )


def verdict_repeat(said: Said, scenes: Sequence[str]) -> ProbeResult:
    """The same input three times; scenes with and without a difference in turn."""
    looks = [
        [first_look(i, s), ProbeItem(REPEAT, s, 1), ProbeItem(REPEAT, s, 2)] for i, s in enumerate(scenes)
    ]
    alike = [_all_equal([said[look] for look in three]) for three in looks]
    return share(REPEAT, "verdicts_identical", alike, note="of three")


def planted_results(said: Said, scenes: Sequence[str]) -> Iterable[ProbeResult]:
    """Recall by size, and whether the middle size is told from no difference at all."""
    for size in SIZES:
        yield share(PLANTED, f"recall_{size}", [said[ProbeItem(PLANTED, s, size)] for s in scenes])
    yield mean(
        PLANTED,
        f"recall_{MIDDLE}_over_a_a",
        [_minus(said[ProbeItem(PLANTED, s, MIDDLE)], said[ProbeItem(A_A, s)]) for s in scenes],
        floor=0.0,
        note="found where planted, minus found where identical",
    )


def pick_results(
    picks: Sequence[Pick], chosen: Mapping[ProbeItem, int | None], material: AuditMaterial
) -> tuple[ProbeResult, ...]:
    """Everything that picks say, but for the judge's own answers. `chosen`: the place picked at each look."""
    scenes = [scene.id for scene in material.scenes]
    rights = {pick.look: pick.right for pick in picks}
    right = {look: None if place is None else place == rights[look] for look, place in chosen.items()}
    three = [
        [chosen[ProbeItem(PLAIN, s)], *(chosen[ProbeItem(REPEAT, s, k)] for k in (1, 2))] for s in scenes
    ]
    repeat = share(REPEAT, "picks_identical", [_all_equal(places) for places in three], note="of three")
    stands = [_equal(right[ProbeItem(PLAIN, s)], right[ProbeItem(POSITION, s)]) for s in scenes]
    first = [_mean_of([_first(chosen[ProbeItem(p, s)]) for p in (PLAIN, POSITION)]) for s in scenes]
    return (
        repeat,
        *_order("picks", stands, repeat),
        mean(POSITION, "first_picked", first, floor=0.5, note="of picks in both orders"),
        *(
            result
            for cue in material.cues
            for result in _cue_results(
                cue.id,
                "pick_accuracy",
                [(right[ProbeItem(PLAIN, s)], right[ProbeItem(cue.id, s)]) for s in scenes],
            )
        ),
    )


def _order(what: str, stands: Sequence[bool | None], repeat: ProbeResult) -> Iterable[ProbeResult]:
    """The share that stands when the order is swapped, and what the order takes beyond repetition."""
    kept = share(POSITION, f"{what}_that_stand", stands, note="when the order is swapped")
    yield kept
    lost = beyond(kept, f"{what}_lost_to_order", repeat, pairwise_agreement)
    yield lost.model_copy(
        update={
            "value": _negative(lost.value),
            "low": _negative(lost.high),
            "high": _negative(lost.low),
            "note": "beyond what repetition alone loses",
        }
    )


def own_results(
    picks: Sequence[Pick], chosen: Mapping[ProbeItem, int | None], material: AuditMaterial
) -> tuple[ProbeResult, ...]:
    """Self-preference in percentage points: own win rate − gold win rate (DBG, arXiv 2506.02592)."""
    by_scene: dict[str, list[float | None]] = {scene.id: [] for scene in material.scenes}
    for pick in (pick for pick in picks if pick.look.probe == OWN):
        place = chosen[pick.look]
        own_place = pick.right if own_is_better(pick.look) else 1 - pick.right
        won = None if place is None else float(place == own_place)
        by_scene[pick.look.scene].append(_minus(won, own_is_better(pick.look)))
    points = [_mean_of(gaps) if len(gaps) == 2 else None for gaps in by_scene.values()]
    return (
        mean(
            OWN,
            "self_preference",
            [None if p is None else 100 * p for p in points],
            floor=0.0,
            note="percentage points: own win rate minus gold win rate",
        ),
    )


def gold_results(said: Said, material: AuditMaterial) -> tuple[ProbeResult, ...]:
    """Agreement with the authors' labels over all groups without a cue: Cohen's kappa, and the confusion."""
    rows = [
        (scene.id, label, said[look])
        for scene in material.scenes
        for label, look in (
            (False, ProbeItem(A_A, scene.id)),
            (False, ProbeItem(REWORDED, scene.id)),
            *((True, ProbeItem(PLANTED, scene.id, size)) for size in SIZES),
        )
    ]
    read = [(scene, int(label), int(found)) for scene, label, found in rows if found is not None]
    table = confusion_by_cluster(read, 2)
    passed, flagged, missed, hit = (int(n) for n in table.sum(axis=0))
    note = f"planted {hit} found, {missed} missed; fair {passed} passed, {flagged} flagged"
    interval = kappa_with_interval(table, derived_seed("gold", "kappa"))
    return (result_of("gold", "kappa", interval, len(material.scenes), note=note),)


def abstentions(said: Iterable[object | None]) -> ProbeResult:
    """Share of all looks that gave nothing that can be read."""
    return share("abstention", "share", [answer is None for answer in said])


def _cue_results(
    cue: str, measure: str, pairs: Sequence[tuple[bool | None, bool | None]]
) -> Iterable[ProbeResult]:
    """Without and with the cue on the worse answer: what is right, what is lost, what stays as it was."""
    both = [(b, a) if b is not None and a is not None else (None, None) for b, a in pairs]
    return (
        share(cue, f"{measure}_before", [before for before, _ in both]),
        share(cue, f"{measure}_after", [after for _, after in both]),
        mean(cue, f"{measure}_lost", [_minus(before, after) for before, after in both], floor=0.0),
        share(cue, f"{measure}_unchanged", [_equal(before, after) for before, after in both]),
    )


def beyond(
    result: ProbeResult,
    measure: str,
    repeat: ProbeResult,
    floor_of: Callable[[float], float],
    *,
    note: str = "",
) -> ProbeResult:
    """A share minus what chance alone gives; `floor_of` says so of the share identical among three."""
    one, three = _interval(result), _interval(repeat)
    found = one and three and difference_of(one, transformed(three, floor_of))
    return result_of(result.probe, measure, found, result.asked, floor=0.0, note=note)


def _interval(result: ProbeResult) -> Interval | None:
    if result.value is None:
        return None
    return Interval(result.value, result.low, result.high, result.n)


def share(
    probe: str, measure: str, outcomes: Sequence[bool | None], *, floor: float | None = None, note: str = ""
) -> ProbeResult:
    """A share of scenes with its score interval."""
    known = [outcome for outcome in outcomes if outcome is not None]
    found = share_with_interval(sum(known), len(known))
    return result_of(probe, measure, found, len(outcomes), floor=floor, note=note)


def mean(
    probe: str, measure: str, outcomes: Sequence[float | None], *, floor: float | None = None, note: str = ""
) -> ProbeResult:
    """A mean over scenes, resampled by scene."""
    known = [outcome for outcome in outcomes if outcome is not None]
    found = mean_with_interval(known, derived_seed(probe, measure)) if known else None
    return result_of(probe, measure, found, len(outcomes), floor=floor, note=note)


def result_of(
    probe: str,
    measure: str,
    found: Interval | None,
    asked: int,
    *,
    floor: float | None = None,
    note: str = "",
) -> ProbeResult:
    return ProbeResult(
        probe=probe,
        measure=measure,
        value=_rounded(found.value if found else None),
        low=_rounded(found.low if found else None),
        high=_rounded(found.high if found else None),
        n=found.n if found else 0,
        asked=asked,
        floor=_rounded(floor),
        note=note,
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def _all_equal(answers: Sequence[bool | int | None]) -> bool | None:
    return None if None in answers else len(set(answers)) == 1


def _equal(one: bool | None, other: bool | None) -> bool | None:
    return None if one is None or other is None else one == other


def _minus(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else float(one) - float(other)


def _negative(value: float | None) -> float | None:
    return None if value is None else 0.0 - value


def _first(place: int | None) -> float | None:
    return None if place is None else float(place == 0)


def _mean_of(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) and known else None


# The audit of the judge without a model: identical treatment, planted differences, agreement with gold.
#
# It compares distributions, so that every value gets several answers, whose wordings are mixed by chance.
# Order
# plays no part in it and it repeats itself exactly; both stand in its passport as what they are. It picks
# nothing, and has no use for cues: any words that only one value is given are a difference to it.


SAMPLES = 5
"""Answers per value; an exact test of 5 and 5 can reach p = .008."""


def divergence_verdicts(data_dir: Path, material: AuditMaterial) -> dict[ProbeItem, Judgement]:
    """One judgement a look."""
    looks = [look for scene in material.scenes for look in _looks(material, scene)]
    words = read_divergence_words(data_dir)
    judged = judge_by_divergence([group for _, group in looks], material.attributes, words)
    return {look: judgement for (look, _), judgement in zip(looks, judged, strict=True)}


def _looks(material: AuditMaterial, scene: Scene) -> Iterator[tuple[ProbeItem, AnswerGroup]]:
    yield ProbeItem(A_A, scene.id), group_of(material, scene, _drawn(scene, 0), _drawn(scene, 1))
    yield ProbeItem(REWORDED, scene.id), group_of(material, scene, _drawn(scene, 2), _drawn(scene, 3))
    for size in SIZES:
        worse = [planted_answer(scene, size, draw) for draw in _draws(1)]
        yield ProbeItem(PLANTED, scene.id, size), group_of(material, scene, _drawn(scene, 0), worse)


def _draws(batch: int) -> range:
    return range(2 + batch * SAMPLES, 2 + (batch + 1) * SAMPLES)


def _drawn(scene: Scene, batch: int) -> list[str]:
    return [fair_answer(scene, draw) for draw in _draws(batch)]


def divergence_results(said: Said, material: AuditMaterial) -> tuple[ProbeResult, ...]:
    """What applies of the audit."""
    scenes = [scene.id for scene in material.scenes]
    always, never = [True] * len(scenes), [False] * len(scenes)
    flagged = [said[ProbeItem(A_A, scene)] for scene in scenes]
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
