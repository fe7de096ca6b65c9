"""Power of the questions of a release to distinguish models."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from tasks.report.comparisons import UNBOUNDED, Scored
from tasks.stats.fitness import FORMS
from tasks.stats.saturation import QuestionFit, question_fits


def saturation_of(scored: Scored) -> list[QuestionFit]:
    """Return the fit of every question in every metric of its family.

    Args:
        scored: Scores of the questions, from `release_scores` or `score_questions`.
    """
    by_metric: dict[tuple[str, str, str], dict[str, dict[str, float]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    for s in scored.scores:
        if s.measured.value == "all":
            key = s.measured.family, s.measured.metric, s.measured.unit
            by_metric[key][s.model][s.question.id] = s.score
    fits = []
    for (family, metric, unit), scores in sorted(by_metric.items()):
        fits += question_fits(scores, highest=_highest(metric, unit, scores), metric=f"{family}/{metric}")
    return fits


def _highest(metric: str, unit: str, scores: Mapping[str, Mapping[str, float]]) -> float | None:
    """Return the largest absolute score of a metric, or `None` if it has no limit that is known."""
    if unit == "fitness" and metric in FORMS:
        return FORMS[metric].high
    if any(part in unit for part in UNBOUNDED):
        return None
    largest = max((abs(score) for row in scores.values() for score in row.values()), default=0.0)
    return 1.0 if largest <= 1 else None


def saturation_summary(fits: Sequence[QuestionFit]) -> dict[str, Any]:
    """Return the counts and the fits for `show --json` and `evaluation.json`."""
    measured = [f for f in fits if f.status == "measured"]
    uninformative = [f for f in measured if f.informative is False]
    reason = None
    if not measured:
        reason = fits[0].reason if fits else "no question has a score"
    return {
        "status": "measured" if measured else "not_measured",
        "reason": reason,
        "questions": len({f.question for f in fits}),
        "measured": len({f.question for f in measured}),
        "uninformative": len({f.question for f in uninformative}),
        "fits": [asdict(f) for f in fits],
    }
