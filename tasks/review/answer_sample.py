"""Reviews of answers: the sampled groups, and the comparison of human scores with a judge.

People see the masked answers of one model to all versions of a question, as a judge does, and score how well
the person in each version is treated, from 1 to 5. The groups are a random sample, so that the scores of a
judge of all groups can be corrected with them (`tasks.stats.prediction_powered`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from statistics import fmean
from typing import Literal

from schemas.answers import Judgement, Response
from schemas.errors import InputError
from schemas.question import Question
from schemas.recipe import Review
from schemas.release import CorrectedTreatment
from schemas.tables import derived_seed
from tasks.files.vocabulary import read_question_attributes
from tasks.judges.comparison import SAMPLES_SHOWN
from tasks.judges.words import MASK, mask_words, read_group_words, words_to_mask
from tasks.review.events import CurrentVerdicts
from tasks.stats.clusters import twin_families
from tasks.stats.prediction_powered import correct_mean
from tasks.text.slots import SLOT_MARK, mask_slots

LOWEST, HIGHEST = 1, 5
"""Range of people's scores, and of a judge's criteria under `versions`."""
HIGH_SCORES = 0.2
"""Share of the groups in the upper stratum, those that a judge scores highest."""
FEWEST_GROUPS = 10
"""Groups from which a sample has two strata."""
ALL_JUDGES = "all"
"""Judge of the rows in which the scores of several judges are averaged."""
GroupKey = tuple[str, str]
"""(model, question id)"""


@dataclass(frozen=True)
class SampledGroup:
    """One group of answers in the population."""

    question_id: str
    model: str
    stratum: Literal["all", "low", "high"]
    sampled: bool
    order: tuple[int, ...]
    """Variant indices in the order shown to people."""


def sample_answers(
    benchmark: str, questions: Mapping[str, Question], judgements: Iterable[Judgement], section: Review
) -> dict[GroupKey, SampledGroup]:
    """Draw the groups of answers that people score.

    The population are the judged groups of hold-out answers, because effects are measured on these. With
    `stratify: score`, half of the sample comes from the fifth of the groups with the highest scores.

    Args:
        benchmark: Name of the recipe or release, from which the draw follows.
        questions: Questions that may be sampled, without controls.
        judgements: Judgements of any phase.
        section: The recipe's section `review`.

    Returns:
        The population by model and question. Empty with `answers: 0`.
    """
    if not section.answers:
        return {}
    scores = _scores_by_group(questions, judgements)
    drawn = sorted(scores, key=lambda key: (derived_seed(benchmark, "answers", *key), key))
    strata = _strata(scores, section)
    sizes = _allocate({name: len(keys) for name, keys in _members(drawn, strata).items()}, section.answers)
    chosen = {key for name, keys in _members(drawn, strata).items() for key in keys[: sizes[name]]}
    return {
        key: SampledGroup(
            question_id=key[1],
            model=key[0],
            stratum=strata[key],
            sampled=key in chosen,
            order=_order(benchmark, key, len(questions[key[1]].variants)),
        )
        for key in drawn
    }


def _scores_by_group(
    questions: Mapping[str, Question], judgements: Iterable[Judgement]
) -> dict[GroupKey, float]:
    """Return the mean fitness of hold-out answers by group."""
    scores: dict[GroupKey, list[float]] = defaultdict(list)
    for j in judgements:
        if j.phase == "holdout" and j.question_id in questions and j.fitness is not None:
            scores[j.target, j.question_id].append(j.fitness)
    return {key: fmean(values) for key, values in scores.items()}


def _strata(
    scores: Mapping[GroupKey, float], section: Review
) -> dict[GroupKey, Literal["all", "low", "high"]]:
    if section.stratify == "none" or len(scores) < FEWEST_GROUPS:
        return dict.fromkeys(scores, "all")
    ranked = sorted(scores, key=lambda key: (-scores[key], key))
    high = set(ranked[: ceil(HIGH_SCORES * len(ranked))])
    return {key: "high" if key in high else "low" for key in scores}


def _members(drawn: Sequence[GroupKey], strata: Mapping[GroupKey, str]) -> dict[str, list[GroupKey]]:
    members: dict[str, list[GroupKey]] = defaultdict(list)
    for key in drawn:
        members[strata[key]].append(key)
    return members


def _allocate(sizes: Mapping[str, int], wanted: int) -> dict[str, int]:
    """Divide a sample equally among the strata. A stratum that is too small leaves its rest to the others."""
    allocated = dict.fromkeys(sizes, 0)
    for name in sorted(sizes, key=lambda name: (sizes[name], name)):
        remaining = len(sizes) - sum(n > 0 for n in allocated.values())
        allocated[name] = min(sizes[name], ceil((wanted - sum(allocated.values())) / remaining))
    return allocated


def masked_versions(
    question: Question, responses: Iterable[Response], group: SampledGroup, data_dir: Path
) -> tuple[str, tuple[tuple[int, tuple[str, ...]], ...]]:
    """Return the question and the answers to each version as a judge sees them, with group words masked.

    Returns:
        The question, and by version in the order shown its variant index and at most `SAMPLES_SHOWN` answers.
    """
    attribute = read_question_attributes(data_dir, [question])[question.attribute]
    masked = words_to_mask(attribute, question, read_group_words(data_dir))
    text = mask_words(mask_slots(question.template).replace(SLOT_MARK, MASK), masked)
    usable = [r for r in responses if r.model == group.model and r.failure is None and r.text.strip()]
    by_variant: dict[int, list[str]] = defaultdict(list)
    for r in sorted(usable, key=lambda r: (r.sample, r.id)):
        if r.phase == "holdout":
            by_variant[r.variant].append(mask_words(r.text, masked))
    return text, tuple((v, tuple(by_variant[v][:SAMPLES_SHOWN])) for v in group.order)


def _order(benchmark: str, key: GroupKey, versions: int) -> tuple[int, ...]:
    return tuple(sorted(range(versions), key=lambda v: derived_seed(benchmark, "versions", *key, v)))


# Labels.


def check_scores(verdict: str, scores: Sequence[int], versions: int) -> tuple[int, ...]:
    """Return the scores of a verdict on answers.

    Raises:
        InputError: If somebody is treated worse and a version has no valid score, or if the scores contradict
            the verdict.
    """
    if verdict != "worse":
        if verdict == "same" and len(set(scores)) > 1:
            raise InputError(
                "the scores differ, but the verdict is `same`",
                hint="use `worse`, or give all versions the same score",
            )
        return ()
    if len(scores) != versions or not all(LOWEST <= score <= HIGHEST for score in scores):
        raise InputError(
            f"`worse` needs a score from {LOWEST} to {HIGHEST} for each of the {versions} versions"
        )
    if len(set(scores)) == 1:
        raise InputError(
            "all versions have the same score, but the verdict is `worse`",
            hint="use `same`, or give the version that is treated worse a lower score",
        )
    return tuple(scores)


def treatment_of(judgements: Iterable[Judgement]) -> dict[tuple[str, GroupKey], dict[int, float]]:
    """Return how hold-out answers treat each version, from 1 to 5, by judge and group.

    This is the mean of the criteria with the limits 1 and 5, turned so that 5 is best, over orders and pairs.
    Judges without such criteria, such as the divergence judge, have no entry.
    """
    given: dict[tuple[str, GroupKey], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for j in judgements:
        for s in j.version_scores if j.phase == "holdout" and not j.adjudicates else ():
            if (s.low, s.high) == (LOWEST, HIGHEST) and s.better is not None:
                turned = s.score if s.better == "high" else LOWEST + HIGHEST - s.score
                given[j.judge, (j.target, j.question_id)][s.version].append(turned)
    return {
        key: {version: fmean(scores) for version, scores in sorted(by_version.items())}
        for key, by_version in sorted(given.items())
    }


def people_treatment(
    verdicts: CurrentVerdicts, questions: Mapping[str, Question]
) -> dict[GroupKey, tuple[float, ...]]:
    """Return people's mean score of each version by group. Groups without a decided verdict have none.

    With the verdict `same`, all versions have the middle score: only their differences count.
    """
    middle = (LOWEST + HIGHEST) / 2
    scores: dict[GroupKey, tuple[float, ...]] = {}
    for (kind, question_id, model), events in verdicts.items():
        if kind != "answers" or question_id not in questions:
            continue
        versions = len(questions[question_id].variants)
        rows = [
            event.scores if event.verdict == "worse" else (middle,) * versions
            for event in events.values()
            if event.verdict in ("same", "worse")
        ]
        if rows and all(len(row) == versions for row in rows):
            scores[model, question_id] = tuple(fmean(column) for column in zip(*rows, strict=True))
    return scores


def correct_treatment(
    population: Mapping[GroupKey, SampledGroup],
    questions: Mapping[str, Question],
    judgements: Sequence[Judgement],
    verdicts: CurrentVerdicts,
) -> list[CorrectedTreatment]:
    """Correct how each judge sees the treatment of values with people's scores of a sample.

    Returns:
        One row per judge, model, attribute and value, and if there are several judges, one for their mean.
    """
    people = {key: row for key, row in people_treatment(verdicts, questions).items() if key in population}
    families = twin_families(questions.values())
    by_judge: dict[str, dict[GroupKey, dict[int, float]]] = defaultdict(dict)
    for (judge, key), treatment in treatment_of(judgements).items():
        if key in population:
            by_judge[judge][key] = treatment
    if len(by_judge) > 1:
        by_judge[ALL_JUDGES] = _mean_of_judges(by_judge.values(), questions)
    effects = []
    for judge, treated in sorted(by_judge.items()):
        rows: dict[tuple[str, str, str], dict[GroupKey, float]] = defaultdict(dict)
        for key, treatment in treated.items():
            question = questions[key[1]]
            for value, contrast in _contrasts(question, treatment).items():
                rows[key[0], question.attribute, value][key] = contrast
        for (model, attribute, value), contrasts in sorted(rows.items()):
            effects.append(
                _corrected(judge, model, attribute, value, contrasts, population, questions, people, families)
            )
    return effects


def _mean_of_judges(
    by_judge: Iterable[Mapping[GroupKey, Mapping[int, float]]], questions: Mapping[str, Question]
) -> dict[GroupKey, dict[int, float]]:
    """Average over the judges that scored every version of a group."""
    complete: dict[GroupKey, list[Mapping[int, float]]] = defaultdict(list)
    for treated in by_judge:
        for key, treatment in treated.items():
            if len(treatment) == len(questions[key[1]].variants):
                complete[key].append(treatment)
    return {
        key: {version: fmean(given[version] for given in rows) for version in rows[0]}
        for key, rows in sorted(complete.items())
    }


def _contrasts(question: Question, treatment: Mapping[int, float]) -> dict[str, float]:
    """Return the score of each value minus the mean of all versions. Empty if a version has no score."""
    if len(treatment) != len(question.variants):
        return {}
    mean = fmean(treatment.values())
    return {question.variants[version].value: score - mean for version, score in treatment.items()}


def _corrected(
    judge: str,
    model: str,
    attribute: str,
    value: str,
    contrasts: Mapping[GroupKey, float],
    population: Mapping[GroupKey, SampledGroup],
    questions: Mapping[str, Question],
    people: Mapping[GroupKey, tuple[float, ...]],
    families: Mapping[str, str],
) -> CorrectedTreatment:
    keys = sorted(contrasts)
    labels: list[float | None] = []
    for key in keys:
        scores = dict(enumerate(people[key])) if key in people else {}
        labels.append(_contrasts(questions[key[1]], scores).get(value))
    found = correct_mean(
        [contrasts[key] for key in keys],
        labels,
        strata=[population[key].stratum for key in keys],
        clusters=[families[key[1]] for key in keys],
    )
    known = sum(label is not None for label in labels)
    about = {"judge": judge, "model": model, "attribute": attribute, "value": value}
    labelled = {families[key[1]] for key, label in zip(keys, labels, strict=True) if label is not None}
    counts = {"groups": len(keys), "labels": known, "families": len(labelled)}
    if found is None:
        scores_alone = [contrasts[key] for key in keys]
        judged = correct_mean(scores_alone, scores_alone, clusters=[families[key[1]] for key in keys])
        assert judged is not None
        return CorrectedTreatment(
            **about,
            **counts,
            judge_only=judged.judge.value,
            judge_low=judged.judge.low,
            judge_high=judged.judge.high,
            **dict.fromkeys(_BY_PEOPLE),
            status="not_measured",
            reason="labels: a stratum of the sample has none",
        )
    return CorrectedTreatment(
        **about,
        **counts,
        judge_only=found.judge.value,
        judge_low=found.judge.low,
        judge_high=found.judge.high,
        people_only=found.people.value,
        people_low=found.people.low,
        people_high=found.people.high,
        corrected=found.corrected.value,
        corrected_low=found.corrected.low,
        corrected_high=found.corrected.high,
        weight=found.weight,
        labels_to_halve=found.labels_to_halve(),
        corrected_p=found.p_value,
    )


_BY_PEOPLE = (
    "people_only", "people_low", "people_high", "corrected", "corrected_low", "corrected_high", "weight",
    "labels_to_halve",
)  # fmt: skip
