"""New superdomains and domains as a model proposes them, and which names are taken."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, Field

from schemas.ids import content_id
from schemas.vocabulary import Superdomain
from tasks.evolving.jobs import TOPICS_PER_DOMAIN, UNOPENED, Job
from tasks.stats.quotas import Unit
from tasks.text.identifiers import identifier, title_of

DOMAINS_PER_SUPERDOMAIN = 2
"""As published (arXiv 2510.12857)."""

Places = tuple[tuple[Unit, str], ...]
"""(domain, title of a topic of it)"""


class ProposedDomain(BaseModel):
    """What the model returns for a domain; more topics than two are left aside."""

    domain: str = Field(description="title of the new domain, one to four words")
    topics: list[str] = Field(min_length=TOPICS_PER_DOMAIN, description="two topics, two to six words each")


class ProposedSuperdomain(BaseModel):
    """What the model returns for a superdomain; more domains than two are left aside."""

    superdomain: str = Field(description="title of the new superdomain, one to four words")
    domains: list[ProposedDomain] = Field(min_length=DOMAINS_PER_SUPERDOMAIN, description="two domains of it")


@dataclass(frozen=True)
class Wish:
    """One unit to be proposed: a domain of `superdomain` or, where that is unopened, a superdomain."""

    superdomain: str
    jobs: tuple[Job, ...]
    number: int

    def tag(self, round: int, attempt: int) -> str:
        """Its request's key in a round."""
        return content_id("explore", round, self.superdomain, self.number, attempt)


def group_wishes(jobs: Sequence[Job]) -> list[Wish]:
    """Two jobs share one new domain; four share one new superdomain of two domains."""
    wanting: dict[str, list[Job]] = defaultdict(list)
    for job in jobs:
        wanting[job.unit[0]].append(job)
    wishes = []
    for superdomain in sorted(wanting):
        size = TOPICS_PER_DOMAIN * (DOMAINS_PER_SUPERDOMAIN if superdomain == UNOPENED else 1)
        here = wanting[superdomain]
        parts = [tuple(here[start : start + size]) for start in range(0, len(here), size)]
        wishes += [Wish(superdomain, part, number) for number, part in enumerate(parts)]
    return wishes


def read_proposal(wish: Wish, proposed: ProposedDomain | ProposedSuperdomain) -> Places:
    """Ids and titles of a proposal."""
    if isinstance(proposed, ProposedDomain):
        return _places(wish.superdomain, proposed)
    inside = proposed.domains[:DOMAINS_PER_SUPERDOMAIN]
    return tuple(place for domain in inside for place in _places(identifier(proposed.superdomain), domain))


def _places(superdomain: str, proposed: ProposedDomain) -> Places:
    unit = superdomain, identifier(proposed.domain)
    return tuple((unit, " ".join(topic.split())[:80]) for topic in proposed.topics[:TOPICS_PER_DOMAIN])


@dataclass
class Atlas:
    """The domains of every superdomain by id, and titles; grows as proposals are taken."""

    domains: dict[str, set[str]]
    titles: Mapping[tuple[str, ...], str]
    """Of the taxonomy's superdomains `(s,)` and domains `(s, d)`."""

    @staticmethod
    def of(units: Sequence[Unit], taxonomy: Sequence[Superdomain]) -> Atlas:
        domains: dict[str, set[str]] = defaultdict(set)
        for superdomain, domain in units:
            domains[superdomain].add(domain)
        titles: dict[tuple[str, ...], str] = {(s.id,): s.title for s in taxonomy}
        titles |= {(s.id, d.id): d.title for s in taxonomy for d in s.domains}
        return Atlas(dict(domains), titles)

    def title(self, *name: str) -> str:
        """Of a superdomain, or of a domain in one."""
        return self.titles.get(name, title_of(name[-1]))

    def beside(self, wish: Wish) -> dict[str, str]:
        """Id and title of what the proposal will stand beside, by id."""
        if wish.superdomain == UNOPENED:
            return {s: self.title(s) for s in sorted(self.domains)}
        return {d: self.title(wish.superdomain, d) for d in sorted(self.domains.get(wish.superdomain, ()))}

    def take(self, wish: Wish, places: Places) -> bool:
        """Write a proposal in; not where a name is taken, or stands in the proposal twice."""
        beside = self.beside(wish)
        taken = {*beside, *(identifier(title) for title in beside.values())}
        units = {unit for unit, _ in places}
        names = {superdomain if wish.superdomain == UNOPENED else domain for superdomain, domain in units}
        topics = {(unit, identifier(title)) for unit, title in places}
        if names & taken or len(topics) < len(places) or len(units) * TOPICS_PER_DOMAIN < len(places):
            return False
        for superdomain, domain in units:
            self.domains.setdefault(superdomain, set()).add(domain)
        return True
