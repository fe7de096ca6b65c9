"""Strategy `thompson`: operators and domains are bandit arms, drawn by what they gave so far.

Thompson sampling (Thompson 1933; Russo et al., arXiv 1707.02038): every arm's chance that a question is
accepted has a Beta distribution over its accepted and its other judged questions, and each job takes the arm
whose draw is highest. What is looked for is domains, not many questions of one: a domain's draw is divided by
one more than the questions that it has already given. The prior is one accepted question at the whole
archive's rate (the uniform one where half of all are accepted), so that an arm which nobody tried is neither
sure to win nor out of the game.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from schemas.ids import derived_seed
from schemas.question import Question
from tasks.evolving.jobs import UNOPENED, Job, Search, explore_known, parent_queues
from tasks.stats.quotas import Unit

OPERATORS = ("refine", "replace", "new_topic", "explore")

Arm = TypeVar("Arm", bound=Hashable)


@dataclass(frozen=True)
class Record:
    """What an arm gave so far."""

    accepted: int = 0
    judged: int = 0


def by_thompson(search: Search) -> list[Job]:
    """One operator, and one domain for it, for every job."""
    if not search.judged:
        return explore_known(search, search.questions)
    arms = Arms(search)
    return [arms.draw_job(number) for number in range(search.questions)]


class Arms:
    """The arms of one round. Parents and unseen domains are used up as jobs take them."""

    def __init__(self, search: Search) -> None:
        judged = search.judged
        self.search = search
        rate = (sum(q.label == "accepted" for q in judged) + 1) / (len(judged) + 2)
        self.prior = 1.0, (1 - rate) / rate
        self.operators = records(judged, lambda q: q.operator or "")
        self.superdomains = records(judged, lambda q: q.superdomain)
        self.units = records(judged, lambda q: (q.superdomain, q.domain))
        self.queues = {unit: parent_queues(search, unit) for unit in sorted(search.units)}
        self.unseen = [unit for unit in sorted(search.units) if unit not in search.seen]

    def draw_job(self, number: int) -> Job:
        """The job's own dice decide. An operator that has nothing to work on gives way to `new_topic`."""
        dice = Random(derived_seed(self.search.seed, "thompson", number))
        operator = self._highest(dice, {name: self.operators.get(name, Record()) for name in OPERATORS})
        if operator == "explore" and (unit := self._unexplored(dice)):
            return Job(unit, "explore")
        parent = self._parent(dice, operator)
        if parent is not None:
            return Job((parent.superdomain, parent.domain), operator, parent)
        return Job(self._next_unit(dice, self.search.units), "new_topic")

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
