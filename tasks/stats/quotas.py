"""Quotas: the number of questions that the next round of a search asks in each domain.

The rules follow CAB (arXiv 2510.12857). Each domain starts from its share of the last round. The share grows
if fitness rises, and shrinks if the domain is barren or old. Shares are rounded by largest remainder.
Questions that remain explore new domains.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor, inf

from schemas.question import Question
from schemas.tables import derived_seed

Unit = tuple[str, str]
"""(superdomain, domain)"""

RISING = 1.2
"""Factor for a domain with rising fitness, or a new domain above the threshold."""
BARREN = 0.7
"""Factor for a domain without hits in recent rounds."""
BARREN_ROUNDS = 3
"""Recent rounds that are counted."""
BARREN_HITS = 2
"""Saved questions below which a domain may be barren."""
BARREN_HIT_RATE = 0.05
"""Share of saved questions below which it is."""
AGEING = 0.8
"""Factor for every domain that is no longer new."""
NEW_ROUNDS = 2
"""Rounds for which a domain is new. Domains of round 0 never are."""


@dataclass(frozen=True)
class UnitStats:
    """One domain in one round."""

    shown: int
    """Number of judged questions."""
    saved: int
    """Number of accepted questions."""
    mean_fitness: float
    """Mean fitness of the judged questions."""


@dataclass(frozen=True)
class RoundStats:
    """One round, by domain."""

    round: int
    threshold: float
    """Lowest fitness of an accepted question."""
    units: Mapping[Unit, UnitStats]


@dataclass(frozen=True)
class RoundPlan:
    """The questions of the next round: per domain, and for exploration."""

    counts: Mapping[Unit, int]
    within: Mapping[str, int]
    """Questions for new domains, by superdomain."""
    beyond: int
    """Questions for new superdomains."""

    @property
    def explore(self) -> int:
        """Number of questions for exploration."""
        return self.beyond + sum(self.within.values())


@dataclass(frozen=True)
class RoundAtLevel:
    """One round at one level: by superdomain, or by domain within one superdomain."""

    round: int
    threshold: float
    units: Mapping[str, UnitStats]


def plan_by_quotas(history: Sequence[RoundStats], questions: int, seed: int) -> RoundPlan:
    """Plan the next round: quotas for superdomains, and within each for its domains.

    Args:
        history: The rounds so far, oldest first. At least one.
        questions: Number of questions in the next round.
        seed: Decides ties only.
    """
    by_superdomain = _quotas([_by_superdomain(r) for r in history], questions, seed)
    counts: dict[Unit, int] = {}
    within: dict[str, int] = {}
    for superdomain, quota in by_superdomain.items():
        levels = [_inside(r, superdomain) for r in history]
        inside = _quotas(levels, quota, derived_seed(seed, superdomain))
        counts |= {(superdomain, domain): count for domain, count in inside.items() if count}
        within[superdomain] = quota - sum(inside.values())
    return RoundPlan(counts, within, questions - sum(by_superdomain.values()))


def round_history(archive: Sequence[Question]) -> list[RoundStats]:
    """Summarise the rounds of an archive, oldest first.

    Only judged open questions count, without controls. The lowest accepted fitness is taken as the threshold.
    Rounds without judged questions are left out.
    """
    judged = [q for q in archive if q.family == "open" and q.control == "none" and q.fitness is not None]
    threshold = min((q.fitness or 0.0 for q in judged if q.label == "accepted"), default=inf)
    rounds: dict[int, dict[Unit, list[Question]]] = defaultdict(lambda: defaultdict(list))
    for question in judged:
        rounds[question.round][(question.superdomain, question.domain)].append(question)
    return [
        RoundStats(number, threshold, {unit: _unit_stats(rows) for unit, rows in sorted(units.items())})
        for number, units in sorted(rounds.items())
    ]


def _unit_stats(questions: Sequence[Question]) -> UnitStats:
    fitness = [q.fitness or 0.0 for q in questions]
    saved = sum(q.label == "accepted" for q in questions)
    return UnitStats(len(questions), saved, sum(fitness) / len(fitness))


def _by_superdomain(stats: RoundStats) -> RoundAtLevel:
    pooled: dict[str, list[UnitStats]] = defaultdict(list)
    for (superdomain, _), unit in stats.units.items():
        pooled[superdomain].append(unit)
    return RoundAtLevel(stats.round, stats.threshold, {name: _pool(units) for name, units in pooled.items()})


def _pool(units: Sequence[UnitStats]) -> UnitStats:
    shown = sum(u.shown for u in units)
    total = sum(u.mean_fitness * u.shown for u in units)
    return UnitStats(shown, sum(u.saved for u in units), total / shown if shown else 0.0)


def _inside(stats: RoundStats, superdomain: str) -> RoundAtLevel:
    units = {d: unit for (s, d), unit in stats.units.items() if s == superdomain}
    return RoundAtLevel(stats.round, stats.threshold, units)


def _quotas(levels: Sequence[RoundAtLevel], total: int, seed: int) -> dict[str, int]:
    """Return the quota of each unit of the last round. They sum to at most `total`."""
    last = levels[-1].units
    shown = sum(u.shown for u in last.values())
    if not shown:
        return {}
    weights = {name: u.shown / shown * growth_factor(name, levels) for name, u in last.items()}
    scale = max(1.0, sum(weights.values()))
    return largest_remainder({name: w / scale * total for name, w in weights.items()}, seed)


def growth_factor(name: str, levels: Sequence[RoundAtLevel]) -> float:
    """Return the factor by which a unit's share changes: the product of the three published rules."""
    seen = [(level, level.units[name]) for level in levels if name in level.units]
    first, (level, now) = seen[0][0].round, seen[-1]
    is_new = first != 0 and level.round + 1 - first < NEW_ROUNDS
    rising = len(seen) > 1 and now.mean_fitness > seen[-2][1].mean_fitness
    factor = 1.0
    if rising or (is_new and now.mean_fitness >= level.threshold):
        factor *= RISING
    if _is_barren([unit for _, unit in seen[-BARREN_ROUNDS:]]):
        factor *= BARREN
    return factor * (1.0 if is_new else AGEING)


def _is_barren(recent: Sequence[UnitStats]) -> bool:
    hits, shown = sum(u.saved for u in recent), sum(u.shown for u in recent)
    return len(recent) == BARREN_ROUNDS and hits < BARREN_HITS and hits < BARREN_HIT_RATE * shown


def largest_remainder(shares: Mapping[str, float], seed: int) -> dict[str, int]:
    """Round shares to integers, with the rounded-down sum of the shares as their sum.

    Args:
        shares: Share of each unit, at least 0.
        seed: Decides between equal remainders.
    """
    # The allowance keeps shares such as 0.1 * 30 from losing a unit to floating point.
    seats = floor(sum(shares.values()) + 1e-9)
    counts = {name: floor(share + 1e-9) for name, share in shares.items()}
    order = sorted(
        shares, key=lambda n: (round(counts[n] - shares[n], 9), derived_seed(seed, "remainder", n), n)
    )
    for name in order[: seats - sum(counts.values())]:
        counts[name] += 1
    return counts
