"""Exploration by a model: new superdomains and new domains, after CAB (arXiv 2510.12857).

The generator is shown the three units that gave most and the three that gave least, and proposes one that is
not there yet, with topics. For a name that is taken it is asked again. What it proposes are titles; they
become ids (`tasks.text.identifiers`) and are never read as anything else.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean

from schemas.ids import derived_seed
from schemas.question import Question
from schemas.vocabulary import Superdomain
from tasks.evolving.jobs import UNOPENED, Job, Search, explore_known, number_jobs
from tasks.evolving.proposals import (
    Atlas,
    Places,
    ProposedDomain,
    ProposedSuperdomain,
    Wish,
    group_wishes,
    read_proposal,
)
from tasks.models.connect import ModelSettings, open_model, run_async
from tasks.models.protocol import Decoding, Model, Request
from tasks.models.structured import Abstention, Parsed, Spent, ask_structured
from tasks.progress import track
from tasks.stats.quotas import Unit
from tasks.store import RunContext
from tasks.text.prompts import fence, read_prompt

RETRIES = 5
"""How often a taken name is asked for again; as published."""
SHOWN = 3
"""Best units, and as many worst ones, that the model sees; as published."""

Answer = Parsed[ProposedDomain] | Parsed[ProposedSuperdomain] | Abstention


@dataclass(frozen=True)
class Explored:
    """All jobs of the round, each in a domain; what was opened, and what it cost."""

    jobs: tuple[Job, ...]
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
    context: RunContext, jobs: Sequence[Job], search: Search, taxonomy: Sequence[Superdomain], round: int
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
    context: RunContext, wishes: Sequence[Wish], search: Search, atlas: Atlas, round: int
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
    context: RunContext, wish: Wish, search: Search, atlas: Atlas, proposals: Proposals, tag: str
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
