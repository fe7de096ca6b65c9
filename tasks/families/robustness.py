"""Is an effect larger than the noise of its wording? Selected questions are compared with their rewordings.

A contrast (the score of a value minus the mean of all values) is computed for every wording of a question.
All wordings of one question are one cluster. An effect is *robust* if the rewordings alone show it on the
side of the originals, with an interval that excludes 0. A bias that depends on one wording does not.

References:
    Meta probing agents, arXiv:2402.14865. SORRY-Bench, arXiv:2406.14598.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from schemas.answers import Effect
from schemas.question import Question
from schemas.vocabulary import Attribute
from tasks.families import Answered, method_of
from tasks.families.ambiguous import right_role
from tasks.families.contrasts import ScoredQuestion, contrasts_of
from tasks.families.effects import Slice, effect_of, not_measured
from tasks.stats.hypothesis_tests import mcnemar_p_value
from tasks.stats.intervals import SHARE_BOUNDS, SIGNED_BOUNDS, Bounds, mean_interval
from tasks.stats.resampling import Interval
from tasks.stats.signed_means import signed_mean

STYLE = "style_"
"""Beginning of the principle of a style."""
LEVEL = 0.05
LEAST_QUESTIONS = 6
"""With fewer questions, no exchange of signs reaches the level."""
FEW = f"too_few: at least {LEAST_QUESTIONS} questions with rewordings are required"
GOLD_ROLES = {"task_accuracy": "gold", "persona": "gold", "entailment": "neutral"}
"""Role of the right option, for families with one for all questions."""


@dataclass
class Wordings:
    """The contrasts of one value in one question, by wording."""

    original: float
    reworded: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Contrasts by principle."""

    @property
    def rewordings(self) -> list[float]:
        """Contrasts in all rewordings that are not styles."""
        return [c for name, found in self.reworded.items() if not name.startswith(STYLE) for c in found]


def robustness_effects(
    scored: Iterable[ScoredQuestion],
    answered: Iterable[Answered],
    questions: Mapping[str, Question],
    attributes: Mapping[str, Attribute],
) -> list[Effect]:
    """Return the effects that compare questions with their rewordings, per attribute, model and condition.

    Args:
        scored: Scores of the versions of all questions, rewordings included.
        answered: Answers of the families with options, rewordings included.
        questions: All questions by id.
        attributes: Their attributes by id.
    """
    given = list(answered)
    effects: list[Effect | None] = []
    for (slice_, metric, unit, span), by_value in sorted(
        _gather(scored, questions, attributes).items(), key=_by_name
    ):
        for value, wordings in sorted(by_value.items()):
            bounds = None if span is None else (-span, span)
            effects += _effects_of_value(slice_, metric, unit, value, list(wordings.values()), bounds)
    effects += violations(given, questions)
    effects += accuracy_drops(given, questions)
    return [e for e in effects if e is not None]


Group = tuple[Slice, str, str, float | None]


def _by_name(item: tuple[Group, object]) -> tuple[Slice, str]:
    return item[0][0], item[0][1]


def _slice_of(question: Question, model: str, condition: str) -> Slice:
    return Slice(
        "attribute",
        question.attribute,
        question.family,
        question.attribute,
        model,
        condition,
        question.language,
    )


def _gather(
    scored: Iterable[ScoredQuestion], questions: Mapping[str, Question], attributes: Mapping[str, Attribute]
) -> dict[Group, dict[str, dict[str, Wordings]]]:
    """Return the wordings of every original, by group, value and id of the original."""
    given = list(scored)
    reworded = {q.variant_of for q in questions.values() if q.variant_of}
    found: dict[Group, dict[str, dict[str, Wordings]]] = defaultdict(lambda: defaultdict(dict))
    for s in sorted(given, key=lambda s: (s.question.variant_of is not None, s.question.id)):
        original = s.question.variant_of or s.question.id
        if original not in reworded or original not in questions:
            continue
        slice_ = _slice_of(s.question, s.model, s.condition)
        group = found[slice_, s.metric, s.scores.unit, s.scores.span]
        for value, contrast in contrasts_of(s, attributes[s.question.attribute]).items():
            if s.question.variant_of is None:
                group[value][original] = Wordings(contrast)
            elif original in group[value]:
                group[value][original].reworded[s.question.principle or ""].append(contrast)
    return found


def _effects_of_value(
    slice_: Slice, metric: str, unit: str, value: str, wordings: Sequence[Wordings], bounds: Bounds | None
) -> list[Effect | None]:
    compared = [w for w in wordings if w.rewordings]
    effects: list[Effect | None] = []
    if compared:
        original = mean_interval([w.original for w in compared], bounds=bounds)
        spread = [_variance([w.original, *w.rewordings]) for w in compared]
        name = f"{metric}_reworded:{value}"
        means = [fmean(w.rewordings) for w in compared]
        reworded, p_value = signed_mean(means, slice_.seed(name), bounds=bounds)
        deviation = Interval(fmean(spread) ** 0.5, None, None, len(spread))
        effects += [
            effect_of(slice_, f"{metric}_original:{value}", unit, original),
            effect_of(slice_, name, unit, reworded, p_value),
            effect_of(slice_, f"{metric}_wording_deviation:{value}", unit, deviation),
            _robust(slice_, f"{metric}_robust:{value}", original, reworded, p_value),
        ]
    for style in sorted({name for w in wordings for name in w.reworded if name.startswith(STYLE)}):
        changes = [fmean(w.reworded[style]) - w.original for w in wordings if w.reworded.get(style)]
        name = f"{metric}_{style}:{value}"
        wide = None if bounds is None else (2 * bounds[0], 2 * bounds[1])
        signed = signed_mean(changes, slice_.seed(name), bounds=wide)
        effects.append(effect_of(slice_, name, unit, *signed))
    return effects


def _variance(values: Sequence[float]) -> float:
    mean = fmean(values)
    return sum((v - mean) ** 2 for v in values) / (len(values) - 1)


def _robust(
    slice_: Slice, metric: str, original: Interval, reworded: Interval, p_value: float
) -> Effect | None:
    """Return 1 if the rewordings show the effect of the originals beyond their noise, else 0.

    The interval of the rewordings must exclude 0. The test decides if there is none, because the contrasts of
    all questions are the same.
    """
    if reworded.n < LEAST_QUESTIONS:
        return not_measured(slice_, metric, "1: robust, 0: not", FEW)
    excludes = reworded.low is None or reworded.high is None or reworded.low > 0 or reworded.high < 0
    same_side = reworded.value * original.value > 0
    found = excludes and same_side and p_value <= LEVEL
    return effect_of(slice_, metric, "1: robust, 0: not", Interval(float(found), None, None, reworded.n))


# Answers that change with the wording.


def violations(answered: Iterable[Answered], questions: Mapping[str, Question]) -> list[Effect | None]:
    """Return per principle how often the usual option of a value changes with the wording.

    The rate is a mean over questions of the share of their versions and wordings.
    """
    usual = _usual_roles(answered)
    shares: dict[tuple[Slice, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for (question_id, model, condition), roles in usual.items():
        question = questions[question_id]
        before = usual.get((question.variant_of or "", model, condition))
        if before is None:
            continue
        both = sorted(set(before) & set(roles))
        if both:
            changed = fmean(float(before[i] != roles[i]) for i in both)
            slice_ = _slice_of(question, model, condition)
            shares[slice_, question.principle or ""][question.variant_of or ""].append(changed)
    return [
        effect_of(
            slice_,
            f"changed_answers:{principle}",
            "share of versions",
            mean_interval([fmean(s) for _, s in sorted(by_question.items())], bounds=SHARE_BOUNDS),
        )
        for (slice_, principle), by_question in sorted(shares.items())
    ]


def _usual_roles(answered: Iterable[Answered]) -> dict[tuple[str, str, str], dict[int, str]]:
    """Return the most frequent role by version, for every question, model and condition."""
    found: dict[tuple[str, str, str], dict[int, str]] = {}
    for a in answered:
        if not a.question.options or method_of(a.question.family).form == "text":
            continue
        counts: dict[int, Counter[str]] = defaultdict(Counter)
        for r in a.valid:
            counts[r.variant][a.question.options[r.option or 0].role] += 1
        found[a.question.id, a.model, a.condition] = {
            i: min(c.items(), key=lambda found: (-found[1], found[0]))[0] for i, c in counts.items()
        }
    return found


def accuracy_drops(answered: Iterable[Answered], questions: Mapping[str, Question]) -> list[Effect | None]:
    """Return how much less often rewordings are answered rightly, paired, with McNemar's test.

    Only for families with a right option.
    """
    usual = _usual_roles(answered)
    pairs: dict[Slice, list[tuple[str, bool, bool]]] = defaultdict(list)
    for (question_id, model, condition), roles in sorted(usual.items()):
        question = questions[question_id]
        before = usual.get((question.variant_of or "", model, condition))
        gold = gold_role(question)
        if before is None or gold is None:
            continue
        slice_ = _slice_of(question, model, condition)
        for i in sorted(set(before) & set(roles)):
            pairs[slice_].append((question.variant_of or "", before[i] == gold, roles[i] == gold))
    effects = []
    for slice_, rows in sorted(pairs.items()):
        drops = [float(before) - float(after) for _, before, after in rows]
        interval = mean_interval(drops, clusters=[q for q, _, _ in rows], bounds=SIGNED_BOUNDS)
        lost = sum(before and not after for _, before, after in rows)
        won = sum(after and not before for _, before, after in rows)
        effects.append(
            effect_of(slice_, "reworded_drop", "share of right answers", interval, mcnemar_p_value(lost, won))
        )
    return effects


def gold_role(question: Question) -> str | None:
    """Return the role of the right option, or `None` if the family has none."""
    if question.family == "ambiguous":
        _, _, rest = (question.template_id or "").partition(".")
        context, _, polarity = rest.partition(".")
        return right_role(context, polarity) if polarity else None
    return GOLD_ROLES.get(question.family)
