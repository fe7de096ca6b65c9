"""New superdomains and domains as a model proposes them, and which names are taken."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean

from pydantic import BaseModel, Field

from schemas.question import Question
from schemas.tables import content_id, derived_seed
from schemas.vocabulary import Superdomain
from tasks.evolve.jobs import TOPICS_PER_DOMAIN, UNOPENED, SearchState, WritingJob, explore_known, number_jobs
from tasks.models import ModelSettings, open_model, run_async
from tasks.models.prompts import fence, read_prompt
from tasks.models.protocol import Decoding, Model, Request
from tasks.models.structured import Abstention, Parsed, Spent, ask_structured
from tasks.run.progress import track
from tasks.run.store import RunContext
from tasks.stats.fitness import Unit
from tasks.text.slugs import slug_to_title, slugify

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
    jobs: tuple[WritingJob, ...]
    number: int

    def tag(self, round: int, attempt: int) -> str:
        """Its request's key in a round."""
        return content_id("explore", round, self.superdomain, self.number, attempt)


def group_wishes(jobs: Sequence[WritingJob]) -> list[Wish]:
    """Two jobs share one new domain; four share one new superdomain of two domains."""
    wanting: dict[str, list[WritingJob]] = defaultdict(list)
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
    return tuple(place for domain in inside for place in _places(slugify(proposed.superdomain), domain))


def _places(superdomain: str, proposed: ProposedDomain) -> Places:
    unit = superdomain, slugify(proposed.domain)
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
        return self.titles.get(name, slug_to_title(name[-1]))

    def beside(self, wish: Wish) -> dict[str, str]:
        """Id and title of what the proposal will stand beside, by id."""
        if wish.superdomain == UNOPENED:
            return {s: self.title(s) for s in sorted(self.domains)}
        return {d: self.title(wish.superdomain, d) for d in sorted(self.domains.get(wish.superdomain, ()))}

    def take(self, wish: Wish, places: Places) -> bool:
        """Write a proposal in; not where a name is taken, or stands in the proposal twice."""
        beside = self.beside(wish)
        taken = {*beside, *(slugify(title) for title in beside.values())}
        units = {unit for unit, _ in places}
        names = {superdomain if wish.superdomain == UNOPENED else domain for superdomain, domain in units}
        topics = {(unit, slugify(title)) for unit, title in places}
        if names & taken or len(topics) < len(places) or len(units) * TOPICS_PER_DOMAIN < len(places):
            return False
        for superdomain, domain in units:
            self.domains.setdefault(superdomain, set()).add(domain)
        return True


# Exploration by a model: new superdomains and new domains, after CAB (arXiv 2510.12857).
#
# The generator is shown the three units that gave most and the three that gave least, and proposes one that
# is
# not there yet, with topics. For a name that is taken it is asked again. What it proposes are titles; they
# become ids (`tasks.text.slots`) and are never read as anything else.


RETRIES = 5
"""How often a taken name is asked for again; as published."""
SHOWN = 3
"""Best units, and as many worst ones, that the model sees; as published."""

Answer = Parsed[ProposedDomain] | Parsed[ProposedSuperdomain] | Abstention


@dataclass(frozen=True)
class Explored:
    """All jobs of the round, each in a domain; what was opened, and what it cost."""

    jobs: tuple[WritingJob, ...]
    opened: tuple[Unit, ...] = ()
    unmet: int = 0
    """Proposals that came to nothing; their jobs explore what is known."""
    spent: tuple[Spent, ...] = ()


@dataclass
class Proposals:
    """What came of the wishes so far."""

    found: dict[Wish, Places] = field(default_factory=dict)
    refused: dict[Wish, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Titles that were taken."""
    spent: list[Spent] = field(default_factory=list)


def open_units(
    context: RunContext,
    jobs: Sequence[WritingJob],
    search: SearchState,
    taxonomy: Sequence[Superdomain],
    round: int,
) -> Explored:
    """Have the generator propose the domains that jobs want opened. Jobs without a usable proposal (refused,
    unreadable, or a taken name every time) explore known domains, unseen ones first."""
    wishes = group_wishes([job for job in jobs if job.opens])
    if not wishes:
        return Explored(tuple(jobs))
    proposals = run_async(_propose(context, wishes, search, Atlas.of(search.units, taxonomy), round))
    placed = [
        replace(job, unit=unit, topic=topic)
        for wish in wishes
        for job, (unit, topic) in zip(wish.jobs, proposals.found.get(wish, ()), strict=False)
    ]
    stranded = [job for wish in wishes if wish not in proposals.found for job in wish.jobs]
    known = explore_known(search, len(stranded))
    moved = [replace(job, unit=other.unit) for job, other in zip(stranded, known, strict=True)]
    return Explored(
        jobs=tuple(number_jobs([*(job for job in jobs if not job.opens), *placed, *moved])),
        opened=tuple(sorted({job.unit for job in placed})),
        unmet=len(wishes) - len(proposals.found),
        spent=tuple(proposals.spent),
    )


async def _propose(
    context: RunContext, wishes: Sequence[Wish], search: SearchState, atlas: Atlas, round: int
) -> Proposals:
    """Ask for every wish; for a taken name up to five times more. Answers are taken in the order of the
    wishes, whenever they come, so that the same answers always open the same domains."""
    proposals, waiting = Proposals(), list(wishes)
    name = context.recipe.models.generator
    async with open_model(name, ModelSettings.of(context)) as model:
        with track(f"{name} explores", len(wishes)) as bar:
            for attempt in range(RETRIES + 1):
                requests = {
                    wish: request_for(context, wish, search, atlas, proposals, wish.tag(round, attempt))
                    for wish in waiting
                }
                answers = await _ask(model, requests)
                waiting = [wish for wish in waiting if not _settle(wish, answers[wish], atlas, proposals)]
                bar.advance(len(requests) - len(waiting))
    return proposals


def _settle(wish: Wish, answer: Answer, atlas: Atlas, proposals: Proposals) -> bool:
    """Whether the wish need not be asked for again: it was met, or the model has no answer for it."""
    proposals.spent.append(answer.spent)
    if isinstance(answer, Abstention):
        return True
    places = read_proposal(wish, answer.value)
    if atlas.take(wish, places):
        proposals.found[wish] = places
        return True
    value = answer.value
    named = value.domain if isinstance(value, ProposedDomain) else value.superdomain
    proposals.refused[wish].append(" ".join(named.split())[:80])
    return False


async def _ask(model: Model, requests: Mapping[Wish, Request]) -> dict[Wish, Answer]:
    """Every wish with its answer."""
    within = [request for wish, request in requests.items() if wish.superdomain != UNOPENED]
    beyond = [request for wish, request in requests.items() if wish.superdomain == UNOPENED]
    answers: dict[str, Answer] = {}
    async for domain in ask_structured(model, within, ProposedDomain):
        answers[domain.tag] = domain
    async for superdomain in ask_structured(model, beyond, ProposedSuperdomain):
        answers[superdomain.tag] = superdomain
    return {wish: answers[request.tag] for wish, request in requests.items()}


def request_for(
    context: RunContext, wish: Wish, search: SearchState, atlas: Atlas, proposals: Proposals, tag: str
) -> Request:
    """The prompt for one proposal: what is there, what gave most and least, and which names were taken."""
    beside = atlas.beside(wish)
    best, worst = best_and_worst(standings(search.judged, wish.superdomain))
    name = "explore_superdomain" if wish.superdomain == UNOPENED else "explore_domain"
    messages = read_prompt(Path(context.data_dir), name).fill(
        superdomain=fence(atlas.title(wish.superdomain), "superdomain"),
        known=fence("\n".join(beside.values()), "known"),
        best=fence(_listed(best, beside), "best"),
        worst=fence(_listed(worst, beside), "worst"),
        refused=fence("\n".join(proposals.refused[wish]) or "(none)", "refused"),
    )
    decoding = Decoding(max_tokens=context.recipe.evolve.max_tokens, seed=derived_seed(search.seed, tag))
    return Request(tag=tag, messages=messages, decoding=decoding, stage="mutate")


def standings(judged: Sequence[Question], superdomain: str) -> list[tuple[str, float]]:
    """Mean fitness by superdomain, or by domain of the superdomain that is given; best first."""
    fitness: dict[str, list[float]] = defaultdict(list)
    for question in judged:
        if superdomain in (UNOPENED, question.superdomain):
            name = question.superdomain if superdomain == UNOPENED else question.domain
            fitness[name].append(question.fitness or 0.0)
    means = [(name, fmean(found)) for name, found in fitness.items()]
    return sorted(means, key=lambda unit: (-unit[1], unit[0]))


def best_and_worst(
    ranked: Sequence[tuple[str, float]],
) -> tuple[Sequence[tuple[str, float]], Sequence[tuple[str, float]]]:
    """Three of each; where there are fewer than six, the best come first."""
    return ranked[:SHOWN], ranked[max(SHOWN, len(ranked) - SHOWN) :]


def _listed(units: Sequence[tuple[str, float]], titles: Mapping[str, str]) -> str:
    lines = [f"{titles.get(name, name)} (mean {mean:.2f})" for name, mean in units]
    return "\n".join(lines) or "(none yet)"
