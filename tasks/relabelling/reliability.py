"""How far judges agree, and how reliable each is when nobody knows the truth.

Agreement is Cohen's kappa of every two judges on "relevant or not". Reliability is the model of Dawid and
Skene (1979), here with two classes: a candidate is relevant with probability π; judge j says so with
probability α_j (sensitivity) where it is and 1 − β_j (β specificity) where it is not; judges err
independently of each other given the truth. Expectation–maximisation starts from the share of judges that
said yes. It takes at least three judges, and it is as right as the independence is: judges that share a
blind spot vouch for each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

from tasks.relabelling.graded import Grades

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

ROUNDS = 500
CLOSE = 1e-8
PRIOR = 1.0
"""One imagined yes and one imagined no a cell: no judge is taken to be infallible."""


@dataclass(frozen=True)
class Reliability:
    """What the model makes of the judges."""

    prevalence: float
    sensitivity: Mapping[str, float]
    specificity: Mapping[str, float]
    relevant: tuple[float, ...]
    """Probability that a pair is relevant, in the order of the pairs."""


def relevance_votes(grades: Grades, pairs: Sequence[tuple[str, str]]) -> Floats:
    """Array (pairs, judges): 1 relevant, 0 not, NaN no grade."""
    import numpy as np

    votes = np.full((len(pairs), len(grades.judges)), np.nan)
    for i, pair in enumerate(pairs):
        for j, (judge, grade) in enumerate(grades.of(*pair).items()):
            if grade is not None:
                votes[i, j] = float(grades.scales[judge].reaches(grade, "relevant"))
    return votes


def pairwise_kappa(grades: Grades, votes: Floats) -> dict[str, float | None]:
    """Cohen's kappa of every two judges on the pairs that both graded; `None` where nothing varies."""
    import numpy as np

    from tasks.stats.agreement import weighted_kappa

    found: dict[str, float | None] = {}
    for (i, left), (j, right) in combinations(enumerate(grades.judges), 2):
        both = ~np.isnan(votes[:, [i, j]]).any(axis=1)
        kappa = weighted_kappa(votes[both, i].tolist(), votes[both, j].tolist())
        found[f"{left} ~ {right}"] = None if np.isnan(kappa) else kappa
    return found


def estimate_reliability(grades: Grades, votes: Floats) -> Reliability | None:
    """Dawid–Skene by expectation–maximisation; `None` for fewer than three judges or without votes."""
    import numpy as np

    if len(grades.judges) < 3 or not (~np.isnan(votes)).any():
        return None
    given = ~np.isnan(votes)
    yes = np.where(given, votes, 0.0)
    no = np.where(given, 1.0 - votes, 0.0)
    share = yes.sum(axis=1) / np.maximum(given.sum(axis=1), 1)
    relevant = np.where(given.any(axis=1), share, 0.5)
    for _ in range(ROUNDS):
        prevalence = (relevant.sum() + PRIOR) / (len(relevant) + 2 * PRIOR)
        sensitivity = (relevant @ yes + PRIOR) / (relevant @ given + 2 * PRIOR)
        specificity = ((1 - relevant) @ no + PRIOR) / ((1 - relevant) @ given + 2 * PRIOR)
        is_so = np.log(prevalence) + yes @ np.log(sensitivity) + no @ np.log(1 - sensitivity)
        is_not = np.log(1 - prevalence) + yes @ np.log(1 - specificity) + no @ np.log(specificity)
        updated = 1 / (1 + np.exp(np.clip(is_not - is_so, -700, 700)))
        moved = float(np.abs(updated - relevant).max())
        relevant = updated
        if moved < CLOSE:
            break
    return Reliability(
        float(prevalence),
        dict(zip(grades.judges, map(float, sensitivity), strict=True)),
        dict(zip(grades.judges, map(float, specificity), strict=True)),
        tuple(map(float, relevant)),
    )


def describe_judges(grades: Grades) -> dict[str, Any]:
    """Agreement and, for three judges or more, reliability without gold, over all pairs that were graded."""
    votes = relevance_votes(grades, sorted(grades.by_pair))
    found = estimate_reliability(grades, votes)
    reliability = found and {
        "prevalence": found.prevalence,
        "sensitivity": dict(found.sensitivity),
        "specificity": dict(found.specificity),
    }
    return {"kappa": pairwise_kappa(grades, votes), "reliability": reliability}
