"""Figures of a release that the card and the report share, computed from its tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

import numpy as np

from schemas.answers import Judgement
from schemas.labels import Dropped
from schemas.question import SELECTED, Question
from schemas.tables import derived_seed
from tasks.judges.panel import SCREEN, settle_panel, signed_scores
from tasks.stats.clusters import ControlFloor, matched_scores
from tasks.stats.comparisons import matched_rank_test
from tasks.stats.resampling import column_totals, p_value

FLOOR_CONTROLS = frozenset({"a_a", "placebo"})
"""Controls with a true effect of zero. Answers to `neutral` controls may differ for good reason."""

SIGNIFICANT, CERTAIN = 0.05, 0.01
MIN_TOPIC_CONTROLS = 3
"""Smallest number of controls of a superdomain that is tested for false positives."""
TOPIC_DRAWS = 1999

JudgeKind = Literal["divergence", "models", "mixed", "none"]


@dataclass(frozen=True)
class FitnessFloor:
    """The fitness that controls reach by chance."""

    value: float
    """95th percentile."""
    controls: int
    """Number of judged controls."""


@dataclass(frozen=True)
class Shrinkage:
    """The loss of fitness of selected questions on fresh samples (the winner's curse)."""

    search: float
    """Mean fitness in the search."""
    holdout: float
    """Mean fitness on hold-out samples."""
    questions: int


def compute_fitness_floor(controls: Iterable[Question]) -> FitnessFloor | None:
    """Return the 95th percentile of the fitness of controls, or `None` without judged controls."""
    judged = sorted(q.fitness for q in controls if q.control in FLOOR_CONTROLS and q.fitness is not None)
    if not judged:
        return None
    rank = -(-95 * (len(judged) - 1) // 100)
    return FitnessFloor(judged[rank], len(judged))


def pair_fitness_by_phase(
    questions: Iterable[Question], judgements: Sequence[Judgement]
) -> list[tuple[float, float]]:
    """Return the (search, hold-out) fitness of each accepted question with both, sorted by question id."""
    form = select_fitness_form(judgements)
    holdout = settle_panel((j for j in judgements if j.phase == "holdout"), form) if form else {}
    return [
        (q.fitness, holdout[q.id])
        for q in sorted(questions, key=lambda q: q.id)
        if q.label in SELECTED and q.fitness is not None and q.id in holdout
    ]


def select_fitness_form(judgements: Iterable[Judgement]) -> str | None:
    """Return the fitness form of the released scores. Verdicts of models take precedence over the screen."""
    forms = sorted({j.fitness_form for j in judgements}, key=lambda form: (form == SCREEN, form))
    return forms[0] if forms else None


def measure_shrinkage(phases: Sequence[tuple[float, float]]) -> Shrinkage | None:
    """Return the mean fitness in both phases, or `None` if no question has both."""
    if not phases:
        return None
    search, holdout = (fmean(side) for side in zip(*phases, strict=True))
    return Shrinkage(search, holdout, len(phases))


# Fresh answers of selected questions against fresh answers of controls.


@dataclass(frozen=True)
class HoldoutTest:
    """Scores of selected questions on fresh answers, tested against the controls that match them."""

    questions: int
    """Selected questions with fresh answers."""
    controls: int
    """Controls with fresh answers."""
    compared: int
    """Twin families of questions with a matching control."""
    unmatched: int
    """Twin families without one."""
    p_value: float | None
    """One-sided. `None` without matching controls."""
    confirmed: int
    fewest_matching: int
    """Smallest number of controls that a selected question is compared with."""

    @property
    def differs(self) -> bool:
        """Whether the questions as a whole score higher than the controls, at .05."""
        return self.p_value is not None and self.p_value <= SIGNIFICANT


@dataclass(frozen=True)
class TopicOfFalsePositives:
    """The superdomain in which judges find most in controls, which have a true effect of zero."""

    superdomain: str
    mean: float
    """Mean score of its controls."""
    elsewhere: float
    """Mean score of all other controls."""
    controls: int
    p_value: float
    """Of the largest difference between a superdomain and the others."""

    @property
    def is_certain(self) -> bool:
        """Whether chance explains the difference in less than one of a hundred builds."""
        return self.p_value <= CERTAIN


def holdout_test(
    questions: Iterable[Question], controls: Iterable[Question], judgements: Sequence[Judgement]
) -> HoldoutTest | None:
    """Test selected questions against controls on fresh answers, or return `None` without any.

    The scores of the search are no evidence: the questions were selected by them.
    """
    selected = [q for q in questions if q.family == "open" and q.label in SELECTED]
    zero = [q for q in controls if q.family == "open" and q.control in FLOOR_CONTROLS]
    scores = _fresh_scores(judgements)
    by_id = {q.id: q for q in [*selected, *zero]}
    tested = {q.id: scores[q.id] for q in selected if q.id in scores}
    if not tested:
        return None
    floor = ControlFloor({q.id: scores[q.id] for q in zero if q.id in scores}, by_id)
    strata = matched_scores(tested, by_id)
    test = matched_rank_test(
        strata,
        {matched: floor.matching(matched) for matched in strata},
        derived_seed("holdout", sorted(tested)),
    )
    return HoldoutTest(
        questions=len(tested),
        controls=sum(q.id in scores for q in zero),
        compared=test.compared,
        unmatched=test.unmatched,
        p_value=test.p_value,
        confirmed=sum(q.label == "confirmed" for q in selected),
        fewest_matching=min(len(floor.matching_question(by_id[i])) for i in tested),
    )


def fresh_scores_by_outcome(
    questions: Sequence[Question], controls: Sequence[Question], judgements: Sequence[Judgement]
) -> dict[str, list[float]]:
    """Return the scores on fresh answers of selected questions by label, and of controls by kind.

    Empty if no selected question has a score.
    """
    scores = _fresh_scores(judgements)
    found: dict[str, list[float]] = {}
    for label in ("confirmed", "candidate", "accepted"):
        found[label] = [scores[q.id] for q in questions if q.label == label and q.id in scores]
    if not any(found.values()):
        return {}
    for title, kind in (("placebo", "placebo"), ("A/A", "a_a")):
        found[title] = [scores[q.id] for q in controls if q.control == kind and q.id in scores]
    return {outcome: values for outcome, values in found.items() if values}


def topic_of_false_positives(
    controls: Iterable[Question], judgements: Sequence[Judgement]
) -> TopicOfFalsePositives | None:
    """Test if judges find more in the controls of one superdomain, by exchanging scores between controls.

    Returns:
        `None` if fewer than two superdomains have `MIN_TOPIC_CONTROLS` judged controls.
    """
    scores = _fresh_scores(judgements) or signed_scores(
        judgements, select_fitness_form(judgements) or SCREEN, "search"
    )
    rows = sorted((q for q in controls if q.control in FLOOR_CONTROLS and q.id in scores), key=lambda q: q.id)
    counts = Counter(q.superdomain for q in rows)
    topics = sorted(topic for topic, n in counts.items() if n >= MIN_TOPIC_CONTROLS)
    if len(topics) < 2:
        return None
    values = np.array([scores[q.id] for q in rows])
    inside = np.array([[q.superdomain == topic for q in rows] for topic in topics], dtype=float)
    generator = np.random.default_rng(derived_seed("topics of controls", [q.id for q in rows]))
    drawn = np.vstack([values, generator.permuted(np.tile(values, (TOPIC_DRAWS, 1)), axis=1)])
    sums, sizes = column_totals(drawn, inside.T), inside.sum(axis=1)
    gaps = sums / sizes - (drawn.sum(axis=1, keepdims=True) - sums) / (len(rows) - sizes)
    # A gap counts in its own standard errors, because that of a topic with few controls varies more.
    largest = (gaps / np.sqrt(1 / sizes + 1 / (len(rows) - sizes))).max(axis=1)
    highest = int((gaps[0] / np.sqrt(1 / sizes + 1 / (len(rows) - sizes))).argmax())
    mean = float(sums[0, highest] / sizes[highest])
    return TopicOfFalsePositives(
        superdomain=topics[highest],
        mean=mean,
        elsewhere=mean - float(gaps[0, highest]),
        controls=int(sizes[highest]),
        p_value=p_value(largest),
    )


def _fresh_scores(judgements: Sequence[Judgement]) -> dict[str, float]:
    form = select_fitness_form(judgements)
    return signed_scores(judgements, form, "holdout") if form else {}


def classify_judges(judges: Sequence[str]) -> JudgeKind:
    """Return whether models, a statistic or both decided."""
    if not judges:
        return "none"
    if SCREEN not in judges:
        return "models"
    return "divergence" if len(judges) == 1 else "mixed"


def count_drop_reasons(dropped: Iterable[Dropped]) -> list[tuple[str, str, int]]:
    """Return (stage, reason, rows), most frequent first."""
    counts = Counter((d.stage, d.reason) for d in dropped)
    return [(stage, reason, n) for (stage, reason), n in sorted(counts.items(), key=lambda c: (-c[1], c[0]))]
