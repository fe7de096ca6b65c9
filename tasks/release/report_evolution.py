"""The search, round by round: how much was made, how it scored, and which way of making it gave what."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean, median

from schemas.question import Question


@dataclass(frozen=True)
class Round:
    """One round of evolution: how many questions were judged, how they scored, how many were accepted."""

    number: int
    judged: int
    accepted: int
    fitness_median: float
    fitness_high: float
    """90th percentile."""
    control_median: float | None


def rounds(questions: Iterable[Question]) -> tuple[Round, ...]:
    """Judged open questions by the round that made them; `questions`: released and dropped ones."""
    by_round: dict[int, list[Question]] = defaultdict(list)
    for q in questions:
        if q.family == "open" and q.fitness is not None:
            by_round[q.round].append(q)
    found = []
    for number, judged in sorted(by_round.items()):
        real = sorted(q.fitness for q in judged if q.fitness is not None and q.control == "none")
        zero = [q.fitness for q in judged if q.fitness is not None and q.control in {"a_a", "placebo"}]
        if real:
            found.append(
                Round(
                    number=number,
                    judged=len(real),
                    accepted=sum(q.label == "accepted" and q.control == "none" for q in judged),
                    fitness_median=median(real),
                    fitness_high=real[-(-9 * len(real) // 10) - 1],
                    control_median=median(zero) if zero else None,
                )
            )
    return tuple(found)


@dataclass(frozen=True)
class Operation:
    """What one way of making questions gave in one round."""

    number: int
    operator: str | None
    """`None`: seeds, and controls that stand beside them."""
    made: int
    judged: int
    accepted: int
    fitness_mean: float | None


def operations(questions: Iterable[Question]) -> tuple[Operation, ...]:
    """Open questions that are no controls, by round and operator; `questions`: released and dropped ones."""
    found: dict[tuple[int, str | None], list[Question]] = defaultdict(list)
    for q in questions:
        if q.family == "open" and q.control == "none":
            found[q.round, q.operator].append(q)
    return tuple(
        Operation(
            number=number,
            operator=operator,
            made=len(made),
            judged=len(scores := [q.fitness for q in made if q.fitness is not None]),
            accepted=sum(q.label == "accepted" for q in made),
            fitness_mean=fmean(scores) if scores else None,
        )
        for (number, operator), made in sorted(found.items(), key=lambda f: (f[0][0], f[0][1] or ""))
    )
