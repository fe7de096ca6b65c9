"""Search strategies: plan the writing jobs of the next round from the archive.

A strategy is a stateless function of `SearchState`. The archive is its whole memory, and it draws by seed
only, independent of the order of the rows. It plans `search.questions` jobs, or none if there is no domain.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from schemas.question import Question
from schemas.recipe import Strategy
from schemas.tables import derived_seed
from tasks.evolve.jobs import (
    OPERATOR_SHARES,
    UNOPENED,
    SearchState,
    WritingJob,
    assign_attributes,
    count_operators,
    explore_known_domains,
    explore_new_domains,
    number_jobs,
    parent_queues,
    plan_domain_jobs,
)
from tasks.stats.quotas import Unit, largest_remainder, plan_by_quotas, round_history

Cell = tuple[Unit, str, str]
"""(domain, framing, attribute)"""
REFINE_SHARE = OPERATOR_SHARES["refine"] / (OPERATOR_SHARES["refine"] + OPERATOR_SHARES["replace"])
OPERATORS = ("refine", "replace", "new_topic", "explore")

Arm = TypeVar("Arm", bound=Hashable)


def plan_jobs(strategy: Strategy, search: SearchState) -> list[WritingJob]:
    """Plan the jobs of the next round, each with its attribute and number."""
    return number_jobs(assign_attributes(STRATEGIES[strategy](search), search))


def expected_operators(strategy: Strategy, questions: int, seed: int) -> dict[str, int]:
    """Return the most jobs of each operator in a round, or an empty dictionary if success decides them.

    Operators need parents, and exploration takes its jobs first, so that a round may have more new topics.
    """
    if strategy == "random":
        return {"explore": questions}
    if strategy in ("thompson", "coverage"):
        return {}
    return count_operators(questions, seed)


def quota_jobs(search: SearchState) -> list[WritingJob]:
    """Plan in proportion to earlier success, by superdomain, domain and operator.

    The remainder explores: new domains if a model can propose them, else those of the taxonomy, unseen ones
    first.

    References:
        CAB, arXiv:2510.12857.
    """
    history = round_history(search.archive)
    if not history:
        return explore_known_domains(search, search.questions)
    plan = plan_by_quotas(history, search.questions, search.seed)
    counts = {unit: count for unit, count in plan.counts.items() if unit in search.units}
    removed = sum(plan.counts.values()) - sum(counts.values())
    jobs = plan_domain_jobs(search, counts)
    if search.opens_units:
        fallback = explore_known_domains(search, removed)
        return jobs + fallback + explore_new_domains(plan.within, plan.beyond)
    return jobs + explore_known_domains(search, removed + plan.explore)


def random_jobs(search: SearchState) -> list[WritingJob]:
    """Plan every job in a domain drawn uniformly, without a parent. Baseline for the other strategies."""
    units = sorted(search.units)
    draws = (derived_seed(search.seed, "random", i) % len(units) for i in range(search.questions))
    return [WritingJob(units[draw], "explore") for draw in draws] if units else []


# MAP-Elites


def map_elites_jobs(search: SearchState) -> list[WritingJob]:
    """Plan half of the round from the elites and half in the cells with the fewest questions.

    The search space is divided into cells of domain × framing × attribute. The elite of a cell is its best
    question. Elites are drawn by seed, each once before any is drawn again.

    References:
        Mouret and Clune (2015), arXiv:1504.04909.
    """
    from_elites = draw_elite_jobs(search, search.questions // 2)
    return from_elites + fill_least_asked_cells(search, search.questions - len(from_elites))


def cell_of(question: Question) -> Cell:
    """Return the cell of a question."""
    return (question.superdomain, question.domain), question.framing, question.attribute


def best_by_cell(judged: Iterable[Question]) -> dict[Cell, Question]:
    """Return the best question of every cell. Ties go to the smallest id."""
    best: dict[Cell, Question] = {}
    for question in sorted(judged, key=lambda q: (-(q.fitness or 0.0), q.id)):
        best.setdefault(cell_of(question), question)
    return best


def draw_elite_jobs(search: SearchState, count: int) -> list[WritingJob]:
    """Plan jobs that refine or replace elites.

    An implicit elite is rewritten through its explicit twin. An elite that was refined before is replaced.
    """
    parents = {q.id: q for q in search.parents if (q.superdomain, q.domain) in search.units}
    elites = best_by_cell(search.judged).values()
    explicit_ids = {(q.twin_id if q.framing == "implicit" else q.id) or "" for q in elites}
    order = sorted(explicit_ids & set(parents), key=lambda i: derived_seed(search.seed, "elite", i))
    refinable = [i for i in order[:count] if i not in search.refined]
    chosen = largest_remainder(
        {"refine": count * REFINE_SHARE, "replace": count * (1 - REFINE_SHARE)}, search.seed
    )
    refined = set(refinable[: chosen["refine"]])
    jobs = []
    for turn in range(count if order else 0):
        parent = parents[order[turn % len(order)]]
        operator = "refine" if parent.id in refined and turn < len(order) else "replace"
        jobs.append(WritingJob((parent.superdomain, parent.domain), operator, parent))
    return jobs


def fill_least_asked_cells(search: SearchState, count: int) -> list[WritingJob]:
    """Plan jobs in the cells with the fewest questions, ties by seed.

    Neutral controls count as questions. Otherwise a cell that can only hold neutral ones would be tried again
    every round.
    """
    asked = Counter(
        cell_of(q) for q in search.archive if q.family == "open" and q.control in ("none", "neutral")
    )

    def fewest(unit: Unit, attribute: str) -> int:
        framings = ("explicit", "implicit") if attribute in search.named_attributes else ("explicit",)
        return min(asked[unit, framing, attribute] for framing in framings)

    cells = [(unit, attribute) for unit in search.units for attribute in search.attributes_for(unit)]
    cells.sort(key=lambda c: (fewest(*c), derived_seed(search.seed, "cell", *c[0], c[1])))
    jobs = [
        WritingJob(unit, "new_topic" if unit in search.seen else "explore", attribute=attribute)
        for unit, attribute in cells
    ]
    return [jobs[i % len(jobs)] for i in range(count)] if jobs else []


def coverage_jobs(search: SearchState) -> list[WritingJob]:
    """Plan every job in the cells with the fewest questions, so that no combination stays empty."""
    return fill_least_asked_cells(search, search.questions)


# Thompson sampling


@dataclass(frozen=True)
class ArmRecord:
    """Success counts of a bandit arm."""

    accepted: int = 0
    judged: int = 0


def thompson_jobs(search: SearchState) -> list[WritingJob]:
    """Draw an operator, and a domain for it, for every job with Thompson sampling.

    References:
        Thompson (1933), doi:10.1093/biomet/25.3-4.285. Russo et al. (2018), arXiv:1707.02038.
    """
    if not search.judged:
        return explore_known_domains(search, search.questions)
    sampler = ThompsonSampler(search)
    return [sampler.draw_job(number) for number in range(search.questions)]


class ThompsonSampler:
    """Bandit arms of one round: operators, superdomains and domains.

    The acceptance rate of an arm has a Beta posterior over its accepted and its other judged questions. Each
    job takes the arm with the highest draw. Because the search is for domains and not for many questions of
    one domain, the draw of a domain is divided by one plus its number of accepted questions.

    The prior is one accepted question at the rate of the whole archive (uniform if half of all are accepted),
    so an untried arm neither always wins nor never does. Parents and unseen domains are consumed as jobs take
    them.
    """

    def __init__(self, search: SearchState) -> None:
        judged = search.judged
        self.search = search
        rate = (sum(q.label == "accepted" for q in judged) + 1) / (len(judged) + 2)
        self.prior = 1.0, (1 - rate) / rate
        self.operators = records_by_arm(judged, lambda q: q.operator or "")
        self.superdomains = records_by_arm(judged, lambda q: q.superdomain)
        self.units = records_by_arm(judged, lambda q: (q.superdomain, q.domain))
        self.queues = {unit: parent_queues(search, unit) for unit in sorted(search.units)}
        self.unseen = [unit for unit in sorted(search.units) if unit not in search.seen]

    def draw_job(self, number: int) -> WritingJob:
        """Draw a job with a random generator of its own.

        An operator without a parent or an unseen domain is replaced with `new_topic`.
        """
        rng = Random(derived_seed(self.search.seed, "thompson", number))
        operator = self._highest(rng, {name: self.operators.get(name, ArmRecord()) for name in OPERATORS})
        if operator == "explore" and (unit := self._draw_unseen(rng)):
            return WritingJob(unit, "explore")
        parent = self._draw_parent(rng, operator)
        if parent is not None:
            return WritingJob((parent.superdomain, parent.domain), operator, parent)
        return WritingJob(self._draw_unit(rng, self.search.units), "new_topic")

    def _draw_unseen(self, rng: Random) -> Unit | None:
        """Draw a superdomain by its record, and uniformly one of its unseen domains.

        If a model can propose domains, the domain is a new one, and so may be the superdomain.
        """
        if self.search.opens_units:
            arms = {s: self.superdomains.get(s, ArmRecord()) for s, _ in self.search.units}
            return self._highest(rng, {**arms, UNOPENED: ArmRecord()}), UNOPENED
        if not self.unseen:
            return None
        arms = {s: self.superdomains.get(s, ArmRecord()) for s, _ in self.unseen}
        superdomain = self._highest(rng, arms)
        unit = rng.choice([u for u in self.unseen if u[0] == superdomain])
        self.unseen.remove(unit)
        return unit

    def _draw_parent(self, rng: Random, operator: str) -> Question | None:
        """Take the next parent for the operator in the highest-drawn domain that has one."""
        usable = [unit for unit, queues in self.queues.items() if queues.get(operator)]
        if not usable:
            return None
        return self.queues[self._draw_unit(rng, usable)][operator].pop(0)

    def _draw_unit(self, rng: Random, units: Iterable[Unit]) -> Unit:
        """Return the domain with the highest draw after division by one plus its accepted questions."""
        records = {unit: self.units.get(unit, ArmRecord()) for unit in sorted(units)}
        return max(records, key=lambda u: self._draw(rng, records[u]) / (1 + records[u].accepted))

    def _highest(self, rng: Random, arms: Mapping[Arm, ArmRecord]) -> Arm:
        """Return the arm with the highest posterior draw. Arms draw in the order of their names."""
        return max(sorted(arms, key=repr), key=lambda arm: self._draw(rng, arms[arm]))

    def _draw(self, rng: Random, record: ArmRecord) -> float:
        alpha, beta = self.prior
        return rng.betavariate(alpha + record.accepted, beta + record.judged - record.accepted)


def records_by_arm(judged: Iterable[Question], arm_of: Callable[[Question], Arm]) -> dict[Arm, ArmRecord]:
    """Count accepted and judged questions by arm."""
    labels: dict[Arm, list[str]] = defaultdict(list)
    for question in judged:
        labels[arm_of(question)].append(question.label)
    return {arm: ArmRecord(found.count("accepted"), len(found)) for arm, found in labels.items()}


STRATEGIES: Mapping[Strategy, Callable[[SearchState], list[WritingJob]]] = {
    "quotas": quota_jobs,
    "map_elites": map_elites_jobs,
    "thompson": thompson_jobs,
    "random": random_jobs,
    "coverage": coverage_jobs,
}
