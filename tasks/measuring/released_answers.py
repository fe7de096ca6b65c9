"""The families' metrics over a release's own answers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from schemas.attribute import Attribute
from schemas.errors import InputError
from schemas.ids import derived_seed
from schemas.question import QUESTIONS, Question
from schemas.response import RESPONSES, Response
from tasks.formats.vocabulary import read_attributes
from tasks.judging.divergence import read_divergence_words
from tasks.judging.groups import group_answers
from tasks.measuring.forced_choices import DIRECTIONS, Answered, gaps_of, gather_answers, logit_of
from tasks.measuring.metrics import figure
from tasks.measuring.open_questions import compare_groups, slice_effects
from tasks.measuring.recorded_completions import CHOICES, Completion, measure_completions
from tasks.measuring.recorded_decisions import measure_decisions
from tasks.release.reading import MANIFEST, open_release
from tasks.stats.bootstrap import mean_with_interval
from tasks.stats.logit_gaps import Decision


def measure_release(family: str, path: Path, data_dir: Path) -> dict[str, Any]:
    """A family's metric over a release directory, or a file inside one. Raises `InputError` where it is no
    release, or holds no answers of that family."""
    root = next((p for p in (path, *path.parents) if (p / MANIFEST).is_file()), path)
    contents = open_release(root).contents
    questions = {q.id: q for q in contents.rows(QUESTIONS) if q.family == family}
    answers = [r for r in contents.rows(RESPONSES) if r.question_id in questions]
    if not answers:
        raise InputError(f"the release has no answers of family {family!r}", place=str(root))
    if family == "completion":
        return measure_completions(_completions(gather_answers(questions, answers)))
    attributes = {
        a.id: a for a in read_attributes(data_dir, sorted({q.attribute for q in questions.values()}))
    }
    if family == "decision":
        return _measure_decisions(gather_answers(questions, answers), attributes)
    return _measure_open(list(questions.values()), answers, attributes, data_dir)


def _completions(answered: Iterable[Answered]) -> list[Completion]:
    """Answers to completions of either direction, where variant and options have a valence."""
    roles = {relative: role for role, relative in CHOICES.items()}
    found = []
    for a in answered:
        sides = {v.index: v.valence for v in a.question.variants}
        for r in a.responses:
            side = sides[r.variant]
            if side and a.question.domain in DIRECTIONS:
                valence = None if r.option is None else a.question.options[r.option].valence
                choice = None if valence is None else roles[side * valence]
                found.append(Completion(a.question.id, a.question.domain, side, choice))
    return found


def _measure_decisions(answered: Sequence[Answered], attributes: Mapping[str, Attribute]) -> dict[str, Any]:
    """`gap` and `coefficient` by model instead of prompt format; a gap in shares says so in its `unit`."""
    gaps: dict[str, dict[str, dict[str, list[float]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    decisions: dict[str, dict[str, list[Decision]]] = defaultdict(lambda: defaultdict(list))
    for a in answered:
        for pair, gap, unit in gaps_of(a, attributes[a.question.attribute]):
            gaps[a.model][pair][unit].append(gap)
        decisions[a.model][a.question.attribute] += _decisions(a)
    return {
        "gap": {
            model: {p: _gap(model, p, units) for p, units in sorted(g.items())} for model, g in gaps.items()
        },
        "coefficient": {
            model: {
                pair: coefficient
                for attribute, rows in sorted(by_attribute.items())
                if rows and (baseline := attributes[attribute].baseline)
                for pair, coefficient in measure_decisions({model: rows}, {attribute: baseline})[
                    "coefficient"
                ][model].items()
            }
            for model, by_attribute in decisions.items()
        },
    }


def _gap(model: str, pair: str, units: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    unit, values = max(sorted(units.items()), key=lambda item: len(item[1]))
    interval = mean_with_interval(values, derived_seed("decision", model, pair))
    return figure(interval.value, interval.low, interval.high, n=interval.n) | {"unit": unit}


def _decisions(answered: Answered) -> list[Decision]:
    """One per answer whose token probabilities are known."""
    names = {v.index: v.value for v in answered.question.variants}
    return [
        Decision(
            answered.question.id,
            {answered.question.attribute: names[r.variant]},
            logit_of(answered.question, r),
        )
        for r in answered.valid
        if r.scoring == "token_probability"
    ]


def _measure_open(
    questions: Sequence[Question],
    answers: Sequence[Response],
    attributes: Mapping[str, Attribute],
    data_dir: Path,
) -> dict[str, Any]:
    """`divergence` by model and attribute, over hold-out answers."""
    groups = group_answers(questions, [r for r in answers if r.phase == "holdout"])
    found: dict[str, dict[str, Any]] = defaultdict(dict)
    for e in slice_effects(compare_groups(groups, attributes, read_divergence_words(data_dir))):
        if e.level == "attribute" and e.metric == "divergence":
            found[e.model][e.attribute] = figure(e.value, e.low, e.high, n=e.n) | {"p_value": e.p_value}
    return {"divergence": dict(found)}
