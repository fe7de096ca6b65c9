"""The families' metrics over a release's own answers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from schemas.attribute import Attribute
from schemas.errors import InputError
from schemas.question import QUESTIONS, Question
from schemas.response import RESPONSES, Response
from tasks.families.choices import family_effects, gather_answers
from tasks.families.method import Answered
from tasks.families.registry import method_of
from tasks.formats.vocabulary import read_attributes
from tasks.judging.divergence import read_divergence_words
from tasks.judging.groups import group_answers
from tasks.measuring.metrics import figure
from tasks.measuring.open_questions import compare_groups, slice_effects
from tasks.release.reading import MANIFEST, open_release


def measure_release(family: str, path: Path, data_dir: Path) -> dict[str, Any]:
    """A family's metric over a release directory, or a file inside one. Raises `InputError` where it is no
    release, or holds no answers of that family."""
    root = next((p for p in (path, *path.parents) if (p / MANIFEST).is_file()), path)
    contents = open_release(root).contents
    questions = {q.id: q for q in contents.rows(QUESTIONS) if q.family == family}
    answers = [r for r in contents.rows(RESPONSES) if r.question_id in questions]
    if not answers:
        raise InputError(f"the release has no answers of family {family!r}", place=str(root))
    attributes = {
        a.id: a for a in read_attributes(data_dir, sorted({q.attribute for q in questions.values()}))
    }
    if family == "open":
        return _measure_open(list(questions.values()), answers, attributes, data_dir)
    answered = gather_answers(questions, answers)
    released = method_of(family).released
    return released(answered, attributes) if released else effect_figures(answered, attributes)


def effect_figures(answered: Sequence[Answered], attributes: Mapping[str, Attribute]) -> dict[str, Any]:
    """The family's effects by metric, model, attribute and condition (left out where there is one only)."""
    found: dict[str, Any] = {}
    for e in family_effects(answered, attributes):
        if e.level in ("attribute", "family", "overall"):
            slot = found.setdefault(e.metric, {}).setdefault(e.model, {}).setdefault(e.name, {})
            slot[e.condition] = figure(e.value, e.low, e.high, n=e.n) | {"p_value": e.p_value, "unit": e.unit}
    return found


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
