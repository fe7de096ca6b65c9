"""Measures of an audit, each with its interval, and the audit of the divergence judge.

Shares over scenes, with one item per scene, have exact intervals (Clopper and Pearson). Differences, and
means of several items, are bootstrapped by scene. Abstentions are left out of a value and counted beside it.

References:
    Differences of intervals (MOVER): Zou and Donner (2008), doi:10.1002/sim.3095.
    Cues that bias judges: arXiv:2306.05685, arXiv:2410.02736, arXiv:2504.09946, arXiv:2505.17100.
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
    LONGER,
    MEDIUM,
    OWN,
    PAIRS,
    PLAIN,
    PLANTED,
    POSITION,
    REPEAT,
    REWORDED,
    AuditMaterial,
    Detections,
    PreferenceProbe,
    ProbeItem,
    detects_difference,
    make_scene_group,
    own_answer_is_better,
    planted_answer,
    read_material,
    reference_answer,
    repeated_item,
)
from tasks.judges.divergence import SETUP, judge_by_divergence, read_divergence_words
from tasks.judges.verdicts import AnswerGroup
from tasks.run.store import vocabulary_hashes
from tasks.stats.agreement import confusion_by_cluster, kappa_with_interval
from tasks.stats.intervals import SHARE_BOUNDS, SIGNED_BOUNDS, Bounds, mean_interval
from tasks.stats.resampling import Interval
from tasks.stats.shares import (
    chance_error,
    pairwise_agreement,
    share_with_interval,
    subtract_intervals,
    transform_interval,
)
from tasks.stats.signed_means import signed_mean

SIZES = (1, 2, 3)
SAMPLES = 5
"""Answers per value for the divergence judge. An exact test of 5 and 5 can reach p = .008."""


def verdict_results(detections: Detections, material: AuditMaterial) -> tuple[ProbeResult, ...]:
    """Compute all measures of verdicts."""
    scenes = [scene.id for scene in material.scenes]
    repeat = verdict_repeat(detections, scenes)
    unchanged = [
        _equal(detections[ProbeItem(PLANTED, s, MEDIUM)], detections[ProbeItem(POSITION, s)]) for s in scenes
    ]
    false_positives = share_result(
        A_A, "false_positives", [detections[ProbeItem(A_A, s)] for s in scenes], note="identical answers"
    )
    return (
        repeat,
        false_positives,
        excess_over_chance(
            false_positives,
            "beyond_chance",
            repeat,
            chance_error,
            note="false positives minus what chance gives",
        ),
        share_result(
            A_A,
            "rewordings_flagged",
            [detections[ProbeItem(REWORDED, s)] for s in scenes],
            note="same advice",
        ),
        *_harmless_results(detections, scenes),
        *planted_results(detections, scenes),
        *_order_results("verdicts", unchanged, repeat),
        *(
            result
            for cue in material.cues
            for result in _cue_results(
                cue.id,
                "verdict_recall",
                [
                    (detections[ProbeItem(PLANTED, s, MEDIUM)], detections[ProbeItem(cue.id, s)])
                    for s in scenes
                ],
            )
        ),
        *gold_results(detections, material),
    )


def _harmless_results(detections: Detections, scenes: Sequence[str]) -> Iterable[ProbeResult]:
    """Compute false positives on harmless differences, alone and beyond those on identical answers."""
    longer = [detections.get(ProbeItem(LONGER, s)) for s in scenes]
    yield share_result(A_A, "length_flagged", longer, note="same advice with words that say nothing")
    for measure, probe in (("rewordings_over_a_a", REWORDED), ("length_over_a_a", LONGER)):
        yield mean_result(
            A_A,
            measure,
            [_minus(detections.get(ProbeItem(probe, s)), detections[ProbeItem(A_A, s)]) for s in scenes],
            floor=0.0,
            note="found in a harmless difference, minus found where identical",
        )


def verdict_repeat(detections: Detections, scenes: Sequence[str]) -> ProbeResult:
    """Compute the share of scenes with three equal verdicts on the same input.

    Scenes with and without a planted difference alternate.
    """
    items = [
        [repeated_item(i, s), ProbeItem(REPEAT, s, 1), ProbeItem(REPEAT, s, 2)] for i, s in enumerate(scenes)
    ]
    identical = [_all_equal([detections[item] for item in triple]) for triple in items]
    return share_result(REPEAT, "verdicts_identical", identical, note="of three")


def planted_results(detections: Detections, scenes: Sequence[str]) -> Iterable[ProbeResult]:
    """Compute recall by size, and recall at the medium size minus false positives."""
    for size in SIZES:
        yield share_result(
            PLANTED, f"recall_{size}", [detections[ProbeItem(PLANTED, s, size)] for s in scenes]
        )
    yield mean_result(
        PLANTED,
        f"recall_{MEDIUM}_over_a_a",
        [_minus(detections[ProbeItem(PLANTED, s, MEDIUM)], detections[ProbeItem(A_A, s)]) for s in scenes],
        floor=0.0,
        note="found where planted, minus found where identical",
    )


def pick_results(
    probes: Sequence[PreferenceProbe], picks: Mapping[ProbeItem, int | None], material: AuditMaterial
) -> tuple[ProbeResult, ...]:
    """Compute all measures of preferences except self-preference.

    Args:
        probes: Planned preferences.
        picks: Index of the picked answer by item. `None` for an abstention.
        material: Audit material.
    """
    scenes = [scene.id for scene in material.scenes]
    better = {probe.item: probe.better for probe in probes}
    correct = {item: None if pick is None else pick == better[item] for item, pick in picks.items()}
    triples = [
        [picks[ProbeItem(PLAIN, s)], *(picks[ProbeItem(REPEAT, s, k)] for k in (1, 2))] for s in scenes
    ]
    repeat = share_result(REPEAT, "picks_identical", [_all_equal(t) for t in triples], note="of three")
    unchanged = [_equal(correct[ProbeItem(PLAIN, s)], correct[ProbeItem(POSITION, s)]) for s in scenes]
    first = [_mean_of([_is_first(picks[ProbeItem(p, s)]) for p in (PLAIN, POSITION)]) for s in scenes]
    plain = [correct[ProbeItem(PLAIN, s)] for s in scenes]
    return (
        repeat,
        share_result(PLAIN, "pick_accuracy", plain, floor=0.5, note="the better of two answers"),
        *_order_results("picks", unchanged, repeat),
        mean_result(
            POSITION, "first_picked", first, bounds=SHARE_BOUNDS, floor=0.5, note="of picks in both orders"
        ),
        *(
            result
            for cue in material.cues
            for result in _cue_results(
                cue.id,
                "pick_accuracy",
                [(correct[ProbeItem(PLAIN, s)], correct[ProbeItem(cue.id, s)]) for s in scenes],
            )
        ),
    )


def _order_results(name: str, unchanged: Sequence[bool | None], repeat: ProbeResult) -> Iterable[ProbeResult]:
    """Yield the share unchanged by swapping the order, and the share lost beyond that lost by repetition."""
    kept = share_result(POSITION, f"{name}_that_stand", unchanged, note="when the order is swapped")
    yield kept
    excess = excess_over_chance(kept, f"{name}_lost_to_order", repeat, pairwise_agreement)
    yield excess.model_copy(
        update={
            "value": _negative(excess.value),
            "low": _negative(excess.high),
            "high": _negative(excess.low),
            "note": "beyond what repetition alone loses",
        }
    )


def own_results(
    probes: Sequence[PreferenceProbe], picks: Mapping[ProbeItem, int | None], material: AuditMaterial
) -> tuple[ProbeResult, ...]:
    """Compute self-preference in percentage points: own win rate minus gold win rate.

    References:
        DBG score, arXiv:2506.02592.
    """
    by_scene: dict[str, list[float | None]] = {scene.id: [] for scene in material.scenes}
    for probe in (probe for probe in probes if probe.item.probe == OWN):
        pick = picks[probe.item]
        own_index = probe.better if own_answer_is_better(probe.item) else 1 - probe.better
        won = None if pick is None else float(pick == own_index)
        by_scene[probe.item.scene].append(_minus(won, own_answer_is_better(probe.item)))
    gaps = [_mean_of(pair) if len(pair) == 2 else None for pair in by_scene.values()]
    return (
        mean_result(
            OWN,
            "self_preference",
            [None if gap is None else 100 * gap for gap in gaps],
            bounds=(-100.0, 100.0),
            floor=0.0,
            note="percentage points: own win rate minus gold win rate",
        ),
    )


def gold_results(detections: Detections, material: AuditMaterial) -> tuple[ProbeResult, ...]:
    """Compute Cohen's kappa and the confusion matrix against the labels of all groups without a cue."""
    rows = [
        (scene.id, label, detections[item])
        for scene in material.scenes
        for label, item in (
            (False, ProbeItem(A_A, scene.id)),
            (False, ProbeItem(REWORDED, scene.id)),
            *((True, ProbeItem(PLANTED, scene.id, size)) for size in SIZES),
        )
    ]
    answered = [(scene, int(label), int(found)) for scene, label, found in rows if found is not None]
    table = confusion_by_cluster(answered, 2)
    passed, flagged, missed, hit = (int(n) for n in table.sum(axis=0))
    note = f"planted {hit} found, {missed} missed; fair {passed} passed, {flagged} flagged"
    interval = kappa_with_interval(table)
    return (make_result("gold", "kappa", interval, len(material.scenes), note=note),)


def abstention_result(outcomes: Iterable[object | None]) -> ProbeResult:
    """Compute the share of abstentions among all items."""
    return share_result("abstention", "share", [outcome is None for outcome in outcomes])


def _cue_results(
    cue: str, measure: str, pairs: Sequence[tuple[bool | None, bool | None]]
) -> Iterable[ProbeResult]:
    """Compute correctness without and with a cue on the worse answer, its loss, and the unchanged share."""
    complete = [(b, a) if b is not None and a is not None else (None, None) for b, a in pairs]
    return (
        share_result(cue, f"{measure}_before", [before for before, _ in complete]),
        share_result(cue, f"{measure}_after", [after for _, after in complete]),
        mean_result(cue, f"{measure}_lost", [_minus(before, after) for before, after in complete], floor=0.0),
        share_result(cue, f"{measure}_unchanged", [_equal(before, after) for before, after in complete]),
    )


def excess_over_chance(
    result: ProbeResult,
    measure: str,
    repeat: ProbeResult,
    floor_of: Callable[[float], float],
    *,
    note: str = "",
) -> ProbeResult:
    """Subtract the level expected from repetition noise alone from a share.

    Args:
        result: A share.
        measure: Name of the new measure.
        repeat: Share of scenes with three identical answers.
        floor_of: Computes the expected level from that share.
        note: Note of the new measure.
    """
    observed, identical = _interval(result), _interval(repeat)
    excess = observed and identical and subtract_intervals(observed, transform_interval(identical, floor_of))
    return make_result(result.probe, measure, excess, result.asked, floor=0.0, note=note)


def _interval(result: ProbeResult) -> Interval | None:
    if result.value is None:
        return None
    return Interval(result.value, result.low, result.high, result.n)


def share_result(
    probe: str, measure: str, outcomes: Sequence[bool | None], *, floor: float | None = None, note: str = ""
) -> ProbeResult:
    """Return the share of true outcomes with its exact interval. `None` outcomes are abstentions."""
    known = [outcome for outcome in outcomes if outcome is not None]
    interval = share_with_interval(sum(known), len(known))
    return make_result(probe, measure, interval, len(outcomes), floor=floor, note=note)


def mean_result(
    probe: str,
    measure: str,
    outcomes: Sequence[float | None],
    *,
    bounds: Bounds = SIGNED_BOUNDS,
    floor: float | None = None,
    note: str = "",
) -> ProbeResult:
    """Return the mean over scenes with its interval. `None` outcomes are abstentions.

    With a floor, the interval contains it if and only if a sign-flip test does not find a difference.
    """
    known = [outcome for outcome in outcomes if outcome is not None]
    interval = None
    if known and floor is None:
        interval = mean_interval(known, bounds=bounds)
    elif known and floor is not None:
        above = [outcome - floor for outcome in known]
        seed = derived_seed(probe, measure)
        found, _ = signed_mean(above, seed, bounds=(bounds[0] - floor, bounds[1] - floor))
        low, high = (None if end is None else floor + end for end in (found.low, found.high))
        interval = Interval(floor + found.value, low, high, found.n)
    return make_result(probe, measure, interval, len(outcomes), floor=floor, note=note)


def make_result(
    probe: str,
    measure: str,
    interval: Interval | None,
    asked: int,
    *,
    floor: float | None = None,
    note: str = "",
) -> ProbeResult:
    """Create a result, rounded to six decimals. Without an interval its value is `None`."""
    return ProbeResult(
        probe=probe,
        measure=measure,
        value=_rounded(interval.value if interval else None),
        low=_rounded(interval.low if interval else None),
        high=_rounded(interval.high if interval else None),
        n=interval.n if interval else 0,
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
    return None if value is None else 0.0 - value  # not -value, which would turn 0.0 into -0.0


def _is_first(index: int | None) -> float | None:
    return None if index is None else float(index == 0)


def _mean_of(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) and known else None


# Audit of the divergence judge
#
# This judge compares distributions, so every value gets several answers with randomly mixed wordings. Order
# and repetition have no effect on it, which its passport states. Preferences do not apply, and neither do
# cues: any words of only one value are a difference to it.


def audit_divergence(data_dir: Path, scenes: int | None = None) -> Passport:
    """Return the passport of the divergence judge. Makes no calls and is deterministic."""
    material = read_material(data_dir, scenes)
    judged = divergence_verdicts(data_dir, material)
    detections = {item: detects_difference(judgement) for item, judgement in judged.items()}
    return Passport(
        judge=SETUP.judge,
        revision=None,
        rubric=SETUP.rubric,
        rubric_hash=SETUP.rubric_hash,
        prompt_hash=SETUP.prompt_hash,
        comparison="",
        gold=vocabulary_hashes(data_dir, (PAIRS,)),
        scenes=len(material.scenes),
        probes=(*divergence_results(detections, material), abstention_result(detections.values())),
    )


def divergence_verdicts(data_dir: Path, material: AuditMaterial) -> dict[ProbeItem, Judgement]:
    """Judge every item with the divergence judge."""
    items = [item for scene in material.scenes for item in _divergence_groups(material, scene)]
    words = read_divergence_words(data_dir)
    judged = judge_by_divergence([group for _, group in items], material.attributes, words)
    return {item: judgement for (item, _), judgement in zip(items, judged, strict=True)}


def _divergence_groups(material: AuditMaterial, scene: Scene) -> Iterator[tuple[ProbeItem, AnswerGroup]]:
    def group(*answers: Sequence[str]) -> AnswerGroup:
        return make_scene_group(material, scene, *answers)

    yield ProbeItem(A_A, scene.id), group(_reference_answers(scene, 0), _reference_answers(scene, 1))
    yield ProbeItem(REWORDED, scene.id), group(_reference_answers(scene, 2), _reference_answers(scene, 3))
    for size in SIZES:
        worse = [planted_answer(scene, size, draw) for draw in _draws(1)]
        yield ProbeItem(PLANTED, scene.id, size), group(_reference_answers(scene, 0), worse)


def _draws(batch: int) -> range:
    return range(2 + batch * SAMPLES, 2 + (batch + 1) * SAMPLES)


def _reference_answers(scene: Scene, batch: int) -> list[str]:
    return [reference_answer(scene, draw) for draw in _draws(batch)]


def divergence_results(detections: Detections, material: AuditMaterial) -> tuple[ProbeResult, ...]:
    """Compute the measures that apply to the divergence judge."""
    scenes = [scene.id for scene in material.scenes]
    always, never = [True] * len(scenes), [False] * len(scenes)
    flagged = [detections[ProbeItem(A_A, scene)] for scene in scenes]
    repeat = share_result(REPEAT, "verdicts_identical", always, note="by construction: nothing is drawn")
    false_positives = share_result(
        A_A, "false_positives", flagged, note="answers drawn from the same wordings"
    )
    return (
        repeat,
        false_positives,
        false_positives.model_copy(update={"measure": "beyond_chance", "note": "it repeats itself exactly"}),
        *planted_results(detections, scenes),
        share_result(POSITION, "verdicts_lost_to_order", never, note="by construction: order plays no part"),
        *gold_results(detections, material),
    )
