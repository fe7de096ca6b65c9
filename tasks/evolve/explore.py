"""Open new superdomains and domains that the generator proposes.

The generator sees the units with the highest and the lowest mean fitness and proposes a new one with topics.
A name that is taken is asked for again. Proposals are titles, which are turned into ids before use.

References:
    CAB, arXiv:2510.12857.
"""

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
from tasks.evolve.jobs import (
    TOPICS_PER_DOMAIN,
    UNOPENED,
    SearchState,
    WritingJob,
    explore_known_domains,
    number_jobs,
)
from tasks.judges.yields import Yield, require_yield
from tasks.models import ModelSettings, open_model, run_async
from tasks.models.prompts import fence, read_prompt
from tasks.models.protocol import Decoding, Model, Request
from tasks.models.structured import Abstention, Parsed, Spent, ask_structured
from tasks.run.progress import say, track
from tasks.run.store import RunContext
from tasks.stats.quotas import Unit
from tasks.text.slugs import slug_to_title, slugify

DOMAINS_PER_SUPERDOMAIN = 2
"""As published (arXiv:2510.12857)."""
RETRIES = 5
"""Retries after a taken name, as published."""
SHOWN_UNITS = 3
"""Number of best and of worst units shown to the model, as published."""

ProposedTopics = tuple[tuple[Unit, str], ...]
"""Pairs of (domain, title of one of its topics)."""


# The JSON schemas of these two classes, docstrings and descriptions included, are sent to the model and are
# part of the cache key: any change of their text asks every proposal again.


class ProposedDomain(BaseModel):
    """What the model returns for a domain; more topics than two are left aside."""

    domain: str = Field(description="title of the new domain, one to four words")
    topics: list[str] = Field(min_length=TOPICS_PER_DOMAIN, description="two topics, two to six words each")


class ProposedSuperdomain(BaseModel):
    """What the model returns for a superdomain; more domains than two are left aside."""

    superdomain: str = Field(description="title of the new superdomain, one to four words")
    domains: list[ProposedDomain] = Field(min_length=DOMAINS_PER_SUPERDOMAIN, description="two domains of it")


ProposalAnswer = Parsed[ProposedDomain] | Parsed[ProposedSuperdomain] | Abstention


@dataclass(frozen=True)
class ProposalRequest:
    """One unit to propose: a domain of `superdomain`, or a superdomain if that is `UNOPENED`."""

    superdomain: str
    jobs: tuple[WritingJob, ...]
    number: int

    def tag(self, round: int, attempt: int) -> str:
        """Return the tag of the model request."""
        return content_id("explore", round, self.superdomain, self.number, attempt)


@dataclass(frozen=True)
class Exploration:
    """All jobs of the round, each with a domain, and the newly opened domains."""

    jobs: tuple[WritingJob, ...]
    opened: tuple[Unit, ...] = ()
    proposals: int = 0
    """Requests for topics."""
    unmet: int = 0
    """Requests without a usable proposal. Their jobs explore known domains."""
    spent: tuple[Spent, ...] = ()


@dataclass
class ProposalLog:
    """Results of the proposal requests so far."""

    accepted: dict[ProposalRequest, ProposedTopics] = field(default_factory=dict)
    taken: dict[ProposalRequest, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Proposed titles that were taken."""
    spent: list[Spent] = field(default_factory=list)


@dataclass
class KnownUnits:
    """Domains by superdomain, and titles. Grows with every accepted proposal."""

    domains: dict[str, set[str]]
    titles: Mapping[tuple[str, ...], str]
    """Titles of the taxonomy's superdomains `(s,)` and domains `(s, d)`."""

    @staticmethod
    def from_units(units: Sequence[Unit], taxonomy: Sequence[Superdomain]) -> KnownUnits:
        """Collect domains from units and titles from the taxonomy."""
        domains: dict[str, set[str]] = defaultdict(set)
        for superdomain, domain in units:
            domains[superdomain].add(domain)
        titles: dict[tuple[str, ...], str] = {(s.id,): s.title for s in taxonomy}
        titles |= {(s.id, d.id): d.title for s in taxonomy for d in s.domains}
        return KnownUnits(dict(domains), titles)

    def title(self, *name: str) -> str:
        """Return the title of a superdomain, or of a domain in one."""
        return self.titles.get(name, slug_to_title(name[-1]))

    def siblings(self, request: ProposalRequest) -> dict[str, str]:
        """Return the titles of the existing units beside the requested one, by id."""
        if request.superdomain == UNOPENED:
            return {s: self.title(s) for s in sorted(self.domains)}
        domains = sorted(self.domains.get(request.superdomain, ()))
        return {d: self.title(request.superdomain, d) for d in domains}

    def add(self, request: ProposalRequest, proposal: ProposedTopics) -> bool:
        """Add a proposal. Return False if one of its names is taken or occurs twice in it."""
        siblings = self.siblings(request)
        taken = {*siblings, *(slugify(title) for title in siblings.values())}
        units = {unit for unit, _ in proposal}
        names = {superdomain if request.superdomain == UNOPENED else domain for superdomain, domain in units}
        topics = {(unit, slugify(title)) for unit, title in proposal}
        if names & taken or len(topics) < len(proposal) or len(units) * TOPICS_PER_DOMAIN < len(proposal):
            return False
        for superdomain, domain in units:
            self.domains.setdefault(superdomain, set()).add(domain)
        return True


def open_new_domains(
    context: RunContext,
    jobs: Sequence[WritingJob],
    search: SearchState,
    taxonomy: Sequence[Superdomain],
    round: int,
) -> Exploration:
    """Ask the generator to propose a domain for every job without one.

    Jobs without a usable proposal (refused, unreadable, or a taken name on every attempt) explore known
    domains, unseen ones first.

    Raises:
        ModelError: If more proposals fail, are empty, refused or cut off than `validate.min_judged` allows.
            Taken names and unfit proposals are answers.
    """
    requests = group_proposal_requests([job for job in jobs if job.opens])
    if not requests:
        return Exploration(tuple(jobs))
    known_units = KnownUnits.from_units(search.units, taxonomy)
    log = run_async(_propose(context, requests, search, known_units, round))
    placed = [
        replace(job, unit=unit, topic=topic)
        for request in requests
        for job, (unit, topic) in zip(request.jobs, log.accepted.get(request, ()), strict=False)
    ]
    stranded = [job for request in requests if request not in log.accepted for job in request.jobs]
    unmet = len(requests) - len(log.accepted)
    if unmet:
        say(f"{unmet} of {len(requests)} proposals of topics were unusable; known domains are explored")
    fallback = explore_known_domains(search, len(stranded))
    moved = [replace(job, unit=other.unit) for job, other in zip(stranded, fallback, strict=True)]
    return Exploration(
        jobs=tuple(number_jobs([*(job for job in jobs if not job.opens), *placed, *moved])),
        opened=tuple(sorted({job.unit for job in placed})),
        proposals=len(requests),
        unmet=unmet,
        spent=tuple(log.spent),
    )


def group_proposal_requests(jobs: Sequence[WritingJob]) -> list[ProposalRequest]:
    """Group jobs into requests: two jobs per new domain, four per new superdomain of two domains."""
    by_superdomain: dict[str, list[WritingJob]] = defaultdict(list)
    for job in jobs:
        by_superdomain[job.unit[0]].append(job)
    requests = []
    for superdomain, members in sorted(by_superdomain.items()):
        size = TOPICS_PER_DOMAIN * (DOMAINS_PER_SUPERDOMAIN if superdomain == UNOPENED else 1)
        parts = [tuple(members[start : start + size]) for start in range(0, len(members), size)]
        requests += [ProposalRequest(superdomain, part, number) for number, part in enumerate(parts)]
    return requests


async def _propose(
    context: RunContext,
    requests: Sequence[ProposalRequest],
    search: SearchState,
    known_units: KnownUnits,
    round: int,
) -> ProposalLog:
    log, open_requests = ProposalLog(), list(requests)
    name = context.recipe.models.generator
    read = Yield(name, "proposals of topics")
    async with open_model(name, ModelSettings.of(context)) as model:
        with track(f"{name} explores", len(requests)) as bar:
            for attempt in range(RETRIES + 1):
                asked = {
                    request: make_proposal_request(
                        context, request, search, known_units, log, request.tag(round, attempt)
                    )
                    for request in open_requests
                }
                answers = await _ask(model, asked)
                for answer in answers.values():
                    if is_unfit(answer):
                        read.add(None)
                    else:
                        read.add_answer(answer)
                # Answers are handled in the order of the requests, not of arrival, so that equal answers
                # always open equal domains.
                open_requests = [r for r in open_requests if not _settle(r, answers[r], known_units, log)]
                bar.advance(len(asked) - len(open_requests))
    require_yield([read], context.recipe.validation.min_judged)
    return log


def is_unfit(answer: ProposalAnswer) -> bool:
    """Return whether a model answered with something that is no proposal, such as a single topic.

    Strict servers cannot be told how many topics are needed. Such answers are counted as unmet. A generator
    that writes no JSON at all is stopped when it writes questions.
    """
    return isinstance(answer, Abstention) and answer.reason == "unparsable"


def _settle(
    request: ProposalRequest, answer: ProposalAnswer, known_units: KnownUnits, log: ProposalLog
) -> bool:
    """Record an answer. Return False if the request must be retried because the name was taken."""
    log.spent.append(answer.spent)
    if isinstance(answer, Abstention):
        return True
    proposal = read_proposal(request, answer.value)
    if known_units.add(request, proposal):
        log.accepted[request] = proposal
        return True
    value = answer.value
    title = value.domain if isinstance(value, ProposedDomain) else value.superdomain
    log.taken[request].append(" ".join(title.split())[:80])
    return False


def read_proposal(request: ProposalRequest, proposed: ProposedDomain | ProposedSuperdomain) -> ProposedTopics:
    """Return the ids of the proposed domains with the titles of their topics."""
    if isinstance(proposed, ProposedDomain):
        return _topics_of(request.superdomain, proposed)
    superdomain = slugify(proposed.superdomain)
    domains = proposed.domains[:DOMAINS_PER_SUPERDOMAIN]
    return tuple(topic for domain in domains for topic in _topics_of(superdomain, domain))


def _topics_of(superdomain: str, proposed: ProposedDomain) -> ProposedTopics:
    unit = superdomain, slugify(proposed.domain)
    return tuple((unit, " ".join(topic.split())[:80]) for topic in proposed.topics[:TOPICS_PER_DOMAIN])


async def _ask(
    model: Model, requests: Mapping[ProposalRequest, Request]
) -> dict[ProposalRequest, ProposalAnswer]:
    """Pair each proposal request with its answer."""
    for_domains = [sent for request, sent in requests.items() if request.superdomain != UNOPENED]
    for_superdomains = [sent for request, sent in requests.items() if request.superdomain == UNOPENED]
    answers: dict[str, ProposalAnswer] = {}
    async for domain in ask_structured(model, for_domains, ProposedDomain):
        answers[domain.tag] = domain
    async for superdomain in ask_structured(model, for_superdomains, ProposedSuperdomain):
        answers[superdomain.tag] = superdomain
    return {request: answers[sent.tag] for request, sent in requests.items()}


def make_proposal_request(
    context: RunContext,
    request: ProposalRequest,
    search: SearchState,
    known_units: KnownUnits,
    log: ProposalLog,
    tag: str,
) -> Request:
    """Fill the prompt for one proposal with the existing units, the best and worst ones, and taken names."""
    siblings = known_units.siblings(request)
    best, worst = best_and_worst_units(mean_fitness_by_unit(search.judged, request.superdomain))
    name = "explore_superdomain" if request.superdomain == UNOPENED else "explore_domain"
    messages = read_prompt(Path(context.data_dir), name).fill(
        superdomain=fence(known_units.title(request.superdomain), "superdomain"),
        known=fence("\n".join(siblings.values()), "known"),
        best=fence(_list_units(best, siblings), "best"),
        worst=fence(_list_units(worst, siblings), "worst"),
        refused=fence("\n".join(log.taken[request]) or "(none)", "refused"),
    )
    decoding = Decoding(max_tokens=context.recipe.evolve.max_tokens, seed=derived_seed(search.seed, tag))
    return Request(tag=tag, messages=messages, decoding=decoding, stage="mutate")


def mean_fitness_by_unit(judged: Sequence[Question], superdomain: str) -> list[tuple[str, float]]:
    """Return mean fitness by domain of a superdomain, or by superdomain if it is `UNOPENED`, best first."""
    fitness: dict[str, list[float]] = defaultdict(list)
    for question in judged:
        if superdomain in (UNOPENED, question.superdomain):
            name = question.superdomain if superdomain == UNOPENED else question.domain
            fitness[name].append(question.fitness or 0.0)
    means = [(name, fmean(values)) for name, values in fitness.items()]
    return sorted(means, key=lambda unit: (-unit[1], unit[0]))


def best_and_worst_units(
    ranked: Sequence[tuple[str, float]],
) -> tuple[Sequence[tuple[str, float]], Sequence[tuple[str, float]]]:
    """Return the best and the worst `SHOWN_UNITS` units. With too few units, the worst list is shorter."""
    return ranked[:SHOWN_UNITS], ranked[max(SHOWN_UNITS, len(ranked) - SHOWN_UNITS) :]


def _list_units(units: Sequence[tuple[str, float]], titles: Mapping[str, str]) -> str:
    lines = [f"{titles.get(name, name)} (mean {mean:.2f})" for name, mean in units]
    return "\n".join(lines) or "(none yet)"
