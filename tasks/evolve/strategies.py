"""Strategy `map_elites`: a map of the best question of every kind, filled and bettered.

MAP-Elites (Mouret and Clune, arXiv 1504.04909): the search space is cut into cells, here domain × framing ×
attribute; each cell keeps its best question, and new ones descend from these elites, all cells alike, so
that the search does not narrow to where it found something first.
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
    explore_anew,
    explore_known,
    jobs_inside,
    number_jobs,
    parent_queues,
    spread_attributes,
)
from tasks.stats.fitness import Unit, plan_by_quotas, round_history

Cell = tuple[Unit, str, str]
"""(domain, framing, attribute)"""
REFINE_SHARE = OPERATOR_SHARES["refine"] / (OPERATOR_SHARES["refine"] + OPERATOR_SHARES["replace"])


def by_map_elites(search: SearchState) -> list[WritingJob]:
    """Half of the round in the cells that were asked least, empty ones first; half from elites drawn by seed,
    each once before any again."""
    drawn = drawn_elites(search, search.questions // 2)
    return drawn + neglected_cells(search, search.questions - len(drawn))


def cell_of(question: Question) -> Cell:
    return (question.superdomain, question.domain), question.framing, question.attribute


def elites(judged: Iterable[Question]) -> dict[Cell, Question]:
    """The best question of every cell; among equals that with the smallest id."""
    best: dict[Cell, Question] = {}
    for question in sorted(judged, key=lambda q: (-(q.fitness or 0.0), q.id)):
        best.setdefault(cell_of(question), question)
    return best


def drawn_elites(search: SearchState, count: int) -> list[WritingJob]:
    """Jobs that refine or replace elites. An elite asked by name is rewritten through its explicit twin; one
    that was refined before is replaced."""
    parents = {q.id: q for q in search.parents if (q.superdomain, q.domain) in search.units}
    found = elites(search.judged).values()
    written_as = {(q.twin_id if q.framing == "implicit" else q.id) or "" for q in found}
    order = sorted(written_as & set(parents), key=lambda i: derived_seed(search.seed, "elite", i))
    jobs = []
    for turn in range(count if order else 0):
        parent = parents[order[turn % len(order)]]
        refines = derived_seed(search.seed, "refine", parent.id, turn) % 100 < 100 * REFINE_SHARE
        fresh = turn < len(order) and parent.id not in search.refined
        jobs.append(
            WritingJob(
                (parent.superdomain, parent.domain), "refine" if refines and fresh else "replace", parent
            )
        )
    return jobs


def neglected_cells(search: SearchState, count: int) -> list[WritingJob]:
    """Jobs in the domains and attributes whose cells were asked least, ties by seed. Questions that were made
    neutral count as asked, so that a cell that can hold nothing else is not tried for ever."""
    asked = Counter(
        cell_of(q) for q in search.archive if q.family == "open" and q.control in ("none", "neutral")
    )

    def least(unit: Unit, attribute: str) -> int:
        framings = ("explicit", "implicit") if attribute in search.named else ("explicit",)
        return min(asked[unit, framing, attribute] for framing in framings)

    places = [(unit, attribute) for unit in search.units for attribute in search.fitting(unit)]
    places.sort(key=lambda p: (least(*p), derived_seed(search.seed, "cell", *p[0], p[1])))
    jobs = [
        WritingJob(unit, "new_topic" if unit in search.seen else "explore", attribute=attribute)
        for unit, attribute in places
    ]
    return [jobs[i % len(jobs)] for i in range(count)] if jobs else []


# Strategy `quotas`: more is asked where more was found (CAB, arXiv 2510.12857).
#
# The arithmetic is in `tasks.stats.fitness`; here its plan becomes jobs.


def by_quotas(search: SearchState) -> list[WritingJob]:
    """Quotas by superdomain and domain, operators by their shares inside each; what is left over explores:
    new domains where a model proposes them, else those of the taxonomy, unseen ones first."""
    history = round_history(search.archive)
    if not history:
        return explore_known(search, search.questions)
    plan = plan_by_quotas(history, search.questions, search.seed)
    counts = {unit: count for unit, count in plan.counts.items() if unit in search.units}
    gone = sum(plan.counts.values()) - sum(counts.values())
    jobs = [job for unit in sorted(counts) for job in jobs_inside(search, unit, counts[unit])]
    if search.opens_units:
        return jobs + explore_known(search, gone) + explore_anew(plan.within, plan.beyond)
    return jobs + explore_known(search, gone + plan.explore)


# Strategy `random`: no memory of what was found. The baseline that the others are compared with.


def at_random(search: SearchState) -> list[WritingJob]:
    """Every job in a domain drawn by seed, all domains alike, without a parent."""
    units = sorted(search.units)
    draws = (derived_seed(search.seed, "random", i) % len(units) for i in range(search.questions))
    return [WritingJob(units[draw], "explore") for draw in draws] if units else []


# Strategy `thompson`: operators and domains are bandit arms, drawn by what they gave so far.
#
# Thompson sampling (Thompson 1933; Russo et al., arXiv 1707.02038): every arm's chance that a question is
# accepted has a Beta distribution over its accepted and its other judged questions, and each job takes the
# arm
# whose draw is highest. What is looked for is domains, not many questions of one: a domain's draw is
# divided by
# one more than the questions that it has already given. The prior is one accepted question at the whole
# archive's rate (the uniform one where half of all are accepted), so that an arm which nobody tried is
# neither
# sure to win nor out of the game.


OPERATORS = ("refine", "replace", "new_topic", "explore")

Arm = TypeVar("Arm", bound=Hashable)


@dataclass(frozen=True)
class Record:
    """What an arm gave so far."""

    accepted: int = 0
    judged: int = 0


def by_thompson(search: SearchState) -> list[WritingJob]:
    """One operator, and one domain for it, for every job."""
    if not search.judged:
        return explore_known(search, search.questions)
    arms = Arms(search)
    return [arms.draw_job(number) for number in range(search.questions)]


class Arms:
    """The arms of one round. Parents and unseen domains are used up as jobs take them."""

    def __init__(self, search: SearchState) -> None:
        judged = search.judged
        self.search = search
        rate = (sum(q.label == "accepted" for q in judged) + 1) / (len(judged) + 2)
        self.prior = 1.0, (1 - rate) / rate
        self.operators = records(judged, lambda q: q.operator or "")
        self.superdomains = records(judged, lambda q: q.superdomain)
        self.units = records(judged, lambda q: (q.superdomain, q.domain))
        self.queues = {unit: parent_queues(search, unit) for unit in sorted(search.units)}
        self.unseen = [unit for unit in sorted(search.units) if unit not in search.seen]

    def draw_job(self, number: int) -> WritingJob:
        """The job's own dice decide. An operator that has nothing to work on gives way to `new_topic`."""
        dice = Random(derived_seed(self.search.seed, "thompson", number))
        operator = self._highest(dice, {name: self.operators.get(name, Record()) for name in OPERATORS})
        if operator == "explore" and (unit := self._unexplored(dice)):
            return WritingJob(unit, "explore")
        parent = self._parent(dice, operator)
        if parent is not None:
            return WritingJob((parent.superdomain, parent.domain), operator, parent)
        return WritingJob(self._next_unit(dice, self.search.units), "new_topic")

    def _unexplored(self, dice: Random) -> Unit | None:
        """A superdomain by its record, an unseen domain of it by chance; where a model proposes domains, a
        new one in a superdomain, which may be new as well."""
        if self.search.opens_units:
            known = {s: self.superdomains.get(s, Record()) for s, _ in self.search.units}
            return self._highest(dice, {**known, UNOPENED: Record()}), UNOPENED
        if not self.unseen:
            return None
        known = {s: self.superdomains.get(s, Record()) for s, _ in self.unseen}
        chosen = self._highest(dice, known)
        unit = dice.choice([u for u in self.unseen if u[0] == chosen])
        self.unseen.remove(unit)
        return unit

    def _parent(self, dice: Random, operator: str) -> Question | None:
        """The next parent of the best-drawn domain that has one for the operator."""
        usable = [unit for unit, queues in self.queues.items() if queues.get(operator)]
        if not usable:
            return None
        return self.queues[self._next_unit(dice, usable)][operator].pop(0)

    def _next_unit(self, dice: Random, units: Iterable[Unit]) -> Unit:
        """The domain whose draw is highest after what it has already given is taken off."""
        records = {unit: self.units.get(unit, Record()) for unit in sorted(units)}
        return max(records, key=lambda u: self._draw(dice, records[u]) / (1 + records[u].accepted))

    def _highest(self, dice: Random, arms: Mapping[Arm, Record]) -> Arm:
        """The arm whose draw from its posterior is highest; drawn in the order of the arms' names."""
        return max(sorted(arms, key=repr), key=lambda arm: self._draw(dice, arms[arm]))

    def _draw(self, dice: Random, record: Record) -> float:
        won, lost = self.prior
        return dice.betavariate(won + record.accepted, lost + record.judged - record.accepted)


def records(judged: Iterable[Question], arm_of: Callable[[Question], Arm]) -> dict[Arm, Record]:
    """Accepted and judged questions by arm."""
    labels: dict[Arm, list[str]] = defaultdict(list)
    for question in judged:
        labels[arm_of(question)].append(question.label)
    return {arm: Record(found.count("accepted"), len(found)) for arm, found in labels.items()}


# Strategies of the search, one file each: what was found so far becomes the jobs of the next round.
#
# A strategy is a function `(Search) -> list[Job]` without state: the archive is its whole memory. It plans
# `search.questions` jobs (none where there is no domain at all) and draws by `search.seed` only, whatever the
# order of the rows.


STRATEGIES: Mapping[Strategy, Callable[[SearchState], list[WritingJob]]] = {
    "quotas": by_quotas,
    "map_elites": by_map_elites,
    "thompson": by_thompson,
    "random": at_random,
}


def plan_jobs(strategy: Strategy, search: SearchState) -> list[WritingJob]:
    """The jobs of the next round, each with its attribute and number. `KeyError` for an unknown strategy."""
    return number_jobs(spread_attributes(STRATEGIES[strategy](search), search))
