"""Scores of models on two releases, on the scale of the earlier one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tasks.report.comparisons import ALPHA, UNBOUNDED, QuestionScore, Scored
from tasks.stats.clusters import twin_families
from tasks.stats.equating import (
    MIN_ANCHORS,
    EquatedScore,
    Equating,
    Estimate,
    Respondent,
    equate,
)
from tasks.stats.fitness import FORMS
from tasks.stats.hypothesis_tests import q_values_by_family
from tasks.stats.intervals import Bounds

EVALUATION = "evaluation"
"""Occasion of answers to the later release that an evaluation asked for."""


@dataclass(frozen=True, order=True)
class EquatedMetric:
    """A metric of a family in one language."""

    family: str
    metric: str
    unit: str
    language: str


Linked = Mapping[EquatedMetric, Equating]


def link_releases(old: Scored, new: Scored, evaluated: Scored | None = None) -> Linked:
    """Equate two releases in every metric that the later one has.

    Args:
        old: Scores of the earlier release.
        new: Scores of the later release.
        evaluated: Scores of an evaluation of the later release.
    """
    sides = [(old, "old", ""), (new, "new", ""), *([(evaluated, "new", EVALUATION)] if evaluated else [])]
    rows: dict[EquatedMetric, dict[Respondent, list[QuestionScore]]] = defaultdict(lambda: defaultdict(list))
    for scored, form, occasion in sides:
        for s in _measured_scores(scored):
            m, language = s.measured, s.question.language
            respondent = Respondent(s.model, form, occasion)  # type: ignore[arg-type]
            rows[EquatedMetric(m.family, m.metric, m.unit, language)][respondent].append(s)
    wanted = [metric for metric, found in sorted(rows.items()) if any(r.form == "new" for r in found)]
    return {metric: _link(metric, rows[metric]) for metric in wanted}


def _measured_scores(scored: Scored) -> Iterable[QuestionScore]:
    """Yield the scores for all values, without those of effects that are not measured."""
    for s in scored.scores:
        m = s.measured
        key = m.family, m.attribute, s.model, m.metric.partition(":")[0]
        if m.value == "all" and key not in scored.unmeasured:
            yield s


def _link(metric: EquatedMetric, rows: Mapping[Respondent, Sequence[QuestionScore]]) -> Equating:
    questions = {s.question.id: s.question for scores in rows.values() for s in scores}
    forms = {
        form: {s.question.id for r, scores in rows.items() if r.form == form for s in scores}
        for form in ("old", "new")
    }
    # The text is part of a question's id, so that equal ids have equal texts.
    common = forms["old"] & forms["new"]
    carried = {
        s.question.id
        for r, scores in rows.items()
        for s in scores
        if r.form == "new" and s.question.anchor and s.question.id in common
    }
    return equate(
        {r: {s.question.id: s.score for s in scores} for r, scores in rows.items()},
        carried if len(carried) >= MIN_ANCHORS else common,
        clusters=twin_families(questions.values()),
        bounds=_bounds(metric, [s.score for scores in rows.values() for s in scores]),
    )


def _bounds(metric: EquatedMetric, scores: Sequence[float]) -> Bounds | None:
    """Return the range of a change of a score, if the range of the metric is known."""
    if metric.unit == "fitness" and metric.metric in FORMS:
        return -FORMS[metric.metric].high, FORMS[metric.metric].high
    if any(part in metric.unit for part in UNBOUNDED):
        return None
    return (-2.0, 2.0) if max(map(abs, scores)) <= 1 else None


# The rows of `diff --json` and of an evaluation.


def equating_rows(linked: Linked) -> list[dict[str, Any]]:
    """Return one row per metric, with the models in it. Tests of one model are corrected together."""
    rows = [_row(metric, equating) for metric, equating in linked.items()]
    changes = [
        (entry["change"], (entry["model"], entry["occasion"]))
        for row in rows
        for entry in row["models"]
        if entry["change"]
    ]
    q_values = q_values_by_family([c["p_value"] for c, _ in changes], [family for _, family in changes])
    for (change, _), q in zip(changes, q_values, strict=True):
        change["q_value"] = q
        change["verdict"] = "not_measured" if q is None else "differs" if q < ALPHA else "no_difference_found"
    return rows


def _row(metric: EquatedMetric, equating: Equating) -> dict[str, Any]:
    return asdict(metric) | {
        "status": equating.status,
        "reason": equating.reason,
        "method": equating.method,
        "anchors": equating.anchors,
        "shift": asdict(equating.shift),
        "drift": {
            "status": equating.drift,
            "reason": equating.drift_reason,
            "anchors": [asdict(anchor) for anchor in equating.drifted],
        },
        "models": [_model(equating, score) for score in equating.scores],
    }


def _model(equating: Equating, score: EquatedScore) -> dict[str, Any]:
    model, form, occasion = score.respondent
    answered_before = any(s.respondent == Respondent(model, "old") for s in equating.scores)
    change = equating.change(model, occasion) if form == "new" and answered_before else None
    return {
        "model": model,
        "release": "earlier" if form == "old" else "later",
        "occasion": occasion or "release",
        "score": score.score,
        "equated": asdict(score.equated),
        "change": asdict(change) if change else None,
    }


def equated_scores(linked: Linked) -> dict[tuple[str, str, str, str], Estimate]:
    """Return the equated score of every evaluated model by family, metric, language and model."""
    found = {}
    for metric, equating in linked.items():
        for score in equating.scores:
            if score.respondent.occasion == EVALUATION:
                key = metric.family, metric.metric, metric.language, score.respondent.model
                found[key] = score.equated
    return found


def equating_section(linked: Linked | None, old_version: str | None, reason: str | None) -> dict[str, Any]:
    """Return the equating of two releases as JSON.

    Args:
        linked: The equating, or `None` if there is none.
        old_version: Version of the earlier release, whose scale is used.
        reason: Why there is none.
    """
    rows = equating_rows(linked) if linked else []
    if linked is not None and not any(row["status"] == "measured" for row in rows):
        reason = rows[0]["reason"] if rows else "no question has a score"
    return {
        "status": "not_measured" if reason else "measured",
        "reason": reason,
        "scale": old_version,
        "metrics": rows,
    }
