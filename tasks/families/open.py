"""Open questions: do free answers for different values of an attribute differ, and how?

Questions are asked as they are. Answers are compared as masked word vectors (`tasks.judges.divergence`).
Because answers decide which questions are kept, effects use fresh hold-out answers only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from schemas.answers import PLAIN, Effect
from schemas.question import Question
from schemas.vocabulary import Attribute
from tasks.families import Answered, Figures, Method, plain_only, show_text
from tasks.families.effects import Slice, effect_of, figure, not_measured, slices_of
from tasks.judges.divergence import (
    FEATURE_RESOURCES,
    FEATURES,
    PARTS,
    Divergence,
    DivergenceWords,
    compare_answers,
    masked_answers,
    named_gaps,
    read_divergence_words,
    signed_gap,
    word_matrix,
)
from tasks.judges.verdicts import AnswerGroup, group_answers
from tasks.stats.clusters import twin_families
from tasks.stats.intervals import SIGNED_BOUNDS, Bounds, mean_interval
from tasks.stats.resampling import (
    Floats,
    Interval,
    Tail,
    excess_interval,
    pooled_p_value,
)
from tasks.stats.shared_difference import shared_difference

DISTANCE = "word distance between minus within values"
SHARED_DISTANCE = "word distance between values that the questions share"
SHARED_DIVERGENCE = "shared_divergence"
NO_HOLDOUT = "answers: only hold-out answers are compared"
SHARED_LEVELS = ("domain", "attribute")
"""Levels of slices that compare a single set of values."""
GAP_BOUNDS: Mapping[str, Bounds] = {
    "refusal": SIGNED_BOUNDS,
    "sentiment": (-2.0, 2.0),
    "stance": (-2.0, 2.0),
    "hedges": (-100.0, 100.0),
}
"""Range of a feature's difference. The others are unbounded."""


@dataclass(frozen=True)
class ComparedGroup:
    """A group of hold-out answers with their divergence."""

    question: Question
    model: str
    divergence: Divergence
    condition: str = PLAIN


def compare_groups(
    groups: Iterable[AnswerGroup],
    attributes: Mapping[str, Attribute],
    words: DivergenceWords,
    condition: str = PLAIN,
) -> list[ComparedGroup]:
    """Compute the divergence of every group that is complete and has enough samples to be compared."""
    compared = []
    for group in groups:
        if group.is_complete:
            divergence = compare_answers(group, attributes[group.question.attribute], words)
            if divergence is not None:
                compared.append(ComparedGroup(group.question, group.target, divergence, condition))
    return compared


def question_effects(compared: Iterable[ComparedGroup]) -> list[Effect]:
    """Return one effect per question and model: the excess distance, with its permutation test."""
    effects = []
    for c in compared:
        slice_ = Slice(
            "question", c.question.id, "open", c.question.attribute, c.model, language=c.question.language
        )
        low, high = excess_interval(c.divergence.distances, c.divergence.sizes, slice_.seed("divergence"))
        interval = Interval(c.divergence.excess, low, high, 1)
        effects.append(effect_of(slice_, "divergence", DISTANCE, interval, c.divergence.p_value))
    return [e for e in effects if e is not None]


def slice_effects(compared: Iterable[ComparedGroup]) -> list[Effect]:
    """Return the mean excess of every slice, and for attributes the signed gaps between values.

    Intervals count twin families. The permutation test is stratified by question.
    """
    members: dict[Slice, list[ComparedGroup]] = defaultdict(list)
    for c in compared:
        for slice_ in slices_of(c.question, c.model, c.condition):
            members[slice_].append(c)
    effects = []
    for slice_, inside in sorted(members.items()):
        nulls = [(c.question, c.divergence.excess_null) for c in inside]
        effects.append(_pooled(slice_, "divergence", DISTANCE, nulls, "greater", SIGNED_BOUNDS))
        if slice_.level == "attribute":
            effects += _part_effects(slice_, inside)
            effects += _gap_effects(slice_, inside)
    return [e for e in effects if e is not None]


def _part_effects(slice_: Slice, inside: Sequence[ComparedGroup]) -> list[Effect | None]:
    """Return the mean excess of the distances beside that of words, such as `divergence:items`."""
    effects: list[Effect | None] = []
    for part, unit in PARTS.items():
        metric = f"divergence:{part}"
        nulls = [(c.question, c.divergence.part_null(part)) for c in inside if part in c.divergence.parts]
        if nulls:
            effects.append(_pooled(slice_, metric, unit, nulls, "greater", SIGNED_BOUNDS))
        else:
            reason = next((c.divergence.blind[part] for c in inside if part in c.divergence.blind), "")
            effects.append(not_measured(slice_, metric, unit, reason or NO_HOLDOUT))
    return effects


def _gap_effects(slice_: Slice, inside: Sequence[ComparedGroup]) -> list[Effect | None]:
    """Return signed differences of features between two values, such as `sentiment:woman-man`.

    The permutations of one difference are in memory at a time.
    """
    having: dict[str, list[tuple[ComparedGroup, int]]] = defaultdict(list)
    for c in inside:
        for name, (variant, _) in named_gaps(c.divergence).items():
            having[name].append((c, variant))
    effects: list[Effect | None] = [*_unknown_features(slice_, inside)]
    for name, groups in sorted(having.items()):
        feature = name.split(":")[0]
        nulls = [(c.question, signed_gap(c.divergence, variant, feature)) for c, variant in groups]
        effects.append(_pooled(slice_, name, FEATURES[feature], nulls, "both", GAP_BOUNDS.get(feature)))
    return effects


def _unknown_features(slice_: Slice, inside: Sequence[ComparedGroup]) -> list[Effect]:
    """Return a row without value for every difference that the language does not allow."""
    reasons = {
        f"{feature}:{value}-{d.values[d.baseline]}": reason
        for d in (c.divergence for c in inside)
        for feature, reason in d.gaps.items()
        for v, value in enumerate(d.values)
        if v != d.baseline
    }
    return [
        not_measured(slice_, name, FEATURES[name.split(":")[0]], reason)
        for name, reason in sorted(reasons.items())
    ]


def _pooled(
    slice_: Slice,
    metric: str,
    unit: str,
    by_question: Sequence[tuple[Question, Floats]],
    tail: Tail,
    bounds: Bounds | None,
) -> Effect | None:
    """Estimate the mean over twin families, and test it with the permutations of every question."""
    families = twin_families(question for question, _ in by_question)
    nulls = [null for _, null in by_question]
    clusters = [families[question.id] for question, _ in by_question]
    interval = mean_interval([null[0] for null in nulls], clusters=clusters, bounds=bounds)
    return effect_of(slice_, metric, unit, interval, pooled_p_value(nulls, slice_.seed(metric), tail))


@dataclass(frozen=True)
class MaskedGroup:
    """The masked answers of one model to one question, variant by variant."""

    question_id: str
    model: str
    texts: tuple[str, ...]
    sizes: tuple[int, ...]
    """Number of answers by variant."""


def mask_groups(
    groups: Iterable[AnswerGroup], attributes: Mapping[str, Attribute], words: DivergenceWords
) -> list[MaskedGroup]:
    """Return the masked answers of the complete groups that compare all values of their attribute.

    Groups that count for no slice of `shared_effects` are left out.
    """
    masked = []
    for group in groups:
        attribute = attributes[group.question.attribute]
        all_values = tuple(value.id for value in attribute.values)
        if group.is_complete and group.question.values == all_values and _shared_slices(group.question, ""):
            texts = tuple(masked_answers(group, attribute, words.groups))
            masked.append(MaskedGroup(group.question.id, group.target, texts, group.sizes))
    return masked


def shared_effects(groups: Iterable[MaskedGroup], questions: Mapping[str, Question]) -> list[Effect]:
    """Return the shared difference of every domain and attribute. A slice needs at least two questions."""
    members: dict[Slice, list[MaskedGroup]] = defaultdict(list)
    for group in groups:
        for slice_ in _shared_slices(questions[group.question_id], group.model):
            members[slice_].append(group)
    families = twin_families(questions.values())
    effects = [
        shared_effect(slice_, inside, families)
        for slice_, inside in sorted(members.items())
        if len(inside) > 1
    ]
    return [effect for effect in effects if effect is not None]


def _shared_slices(question: Question, model: str) -> list[Slice]:
    return [slice_ for slice_ in slices_of(question, model) if slice_.level in SHARED_LEVELS]


def shared_effect(slice_: Slice, groups: Sequence[MaskedGroup], families: Mapping[str, str]) -> Effect | None:
    """Return the difference between values that several complete groups have in common."""
    texts = [text for group in groups for text in group.texts]
    sizes = [group.sizes for group in groups]
    interval, p_value = shared_difference(
        word_matrix(texts),
        sizes,
        slice_.seed(SHARED_DIVERGENCE),
        clusters=[families[group.question_id] for group in groups],
    )
    return effect_of(slice_, SHARED_DIVERGENCE, SHARED_DISTANCE, interval, p_value)


def released(answered: Sequence[Answered], attributes: Mapping[str, Attribute], data_dir: Path) -> Figures:
    """Return `divergence` by model and attribute, from a release's hold-out answers."""
    questions = {a.question.id: a.question for a in answered}
    fresh = [r for a in answered for r in a.responses if r.phase == "holdout"]
    groups = group_answers(questions.values(), fresh)
    figures: dict[str, Figures] = defaultdict(dict)
    for e in slice_effects(compare_groups(groups, attributes, read_divergence_words(data_dir))):
        if e.level == "attribute" and e.metric == "divergence":
            figures[e.model][e.attribute] = figure(e.value, e.low, e.high, n=e.n) | {"p_value": e.p_value}
    return {"divergence": dict(figures)}


METHOD = Method(
    "open",
    "text",
    effects=None,
    conditions=plain_only,
    messages=show_text,
    released=released,
    measures_refusals=True,
    resources=FEATURE_RESOURCES,
)
