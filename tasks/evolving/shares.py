"""Who gets how many: operators inside a domain, and domains of the exploration."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from schemas.ids import derived_seed
from schemas.question import Question
from tasks.stats.quotas import RoundPlan, Unit, largest_remainder

OPERATOR_SHARES: Mapping[str, float] = {"refine": 0.3, "replace": 0.2, "new_topic": 0.5}
"""Shares of the operators inside a domain, as published (arXiv 2510.12857)."""


@dataclass(frozen=True)
class Job:
    """One question to be written: where, how, and from which parent."""

    unit: Unit
    operator: str
    parent: Question | None
    number: int
    """Tells the jobs of one domain in one round apart."""


def plan_jobs(
    plan: RoundPlan,
    archive: Sequence[Question],
    units: Sequence[Unit],
    seed: int,
    *,
    composed_parents: bool = False,
) -> list[Job]:
    """The jobs of a round. `units` are all domains of the taxonomy; exploration takes unseen ones first.
    `composed_parents`: only questions whose parts are known can be parents.

    Without a saved question to refine or a shown one to replace, a job falls to `new_topic`.
    """
    counts = {u: n for u, n in plan.counts.items() if u in units}
    explore = plan.explore + sum(n for u, n in plan.counts.items() if u not in units)
    parents = [q for q in archive if _is_parent(q) and (q.composition or not composed_parents)]
    refined = {q.parent_id for q in archive if q.operator == "refine"}
    jobs = [job for unit in sorted(counts) for job in _jobs_of(unit, counts[unit], parents, refined, seed)]
    return jobs + _exploration(explore, archive, units, seed)


def _jobs_of(
    unit: Unit, count: int, parents: Sequence[Question], refined: Collection[str | None], seed: int
) -> list[Job]:
    here = [q for q in parents if (q.superdomain, q.domain) == unit]
    ranked = sorted(here, key=lambda q: (-(q.fitness or 0.0), q.id))
    queues = {
        "refine": [q for q in ranked if q.label == "accepted" and q.id not in refined],
        "replace": list(ranked),
    }
    shares = largest_remainder(
        {name: share * count for name, share in OPERATOR_SHARES.items()}, derived_seed(seed, *unit)
    )
    jobs: list[Job] = []
    for operator in OPERATOR_SHARES:
        for _ in range(shares.get(operator, 0)):
            queue = queues.get(operator)
            parent = queue.pop(0) if queue else None
            jobs.append(Job(unit, operator if parent else "new_topic", parent, len(jobs)))
    return jobs + [Job(unit, "new_topic", None, i) for i in range(len(jobs), count)]


def _is_parent(question: Question) -> bool:
    return question.family == "open" and question.control == "none" and question.framing == "explicit"


def _exploration(count: int, archive: Sequence[Question], units: Sequence[Unit], seed: int) -> list[Job]:
    """Two topics for each newly opened domain, unseen domains before seen ones."""
    seen = {(q.superdomain, q.domain) for q in archive}
    order = sorted(units, key=lambda u: (u in seen, derived_seed(seed, "explore", *u)))
    jobs = [Job(unit, "explore", None, i) for unit in order for i in range(2)]
    rounds = -(-count // len(jobs)) if jobs else 0
    return [
        Job(job.unit, job.operator, None, job.number + 2 * turn) for turn in range(rounds) for job in jobs
    ][:count]
