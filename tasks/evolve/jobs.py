"""What the models of a round cost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from schemas.question import Question
from schemas.release import StageCost
from schemas.tables import derived_seed
from schemas.vocabulary import Superdomain
from tasks.models.structured import Spent
from tasks.stats.fitness import Unit, largest_remainder
from tasks.text.slugs import slug_to_title, slugify


def costs_of_calls(calls: Iterable[tuple[str, Spent]]) -> tuple[StageCost, ...]:
    """(model, what one call cost), summed by model; sorted by its name."""
    by_model: dict[str, list[Spent]] = defaultdict(list)
    for model, spent in calls:
        by_model[model].append(spent)
    return tuple(
        StageCost(
            stage="mutate",
            model=model,
            calls=sum(s.tries for s in found),
            tokens_in=sum(s.tokens_in for s in found),
            tokens_out=sum(s.tokens_out for s in found),
            cost_usd=round(sum(s.cost_usd for s in found), 6),
        )
        for model, found in sorted(by_model.items())
    )


# What a strategy sees of the search, and what it wants written; and the parts that strategies share.


OPERATOR_SHARES: Mapping[str, float] = {"refine": 0.3, "replace": 0.2, "new_topic": 0.5}
"""Shares of the operators inside a domain, as published (arXiv 2510.12857)."""
TOPICS_PER_DOMAIN = 2
"""Questions that a newly explored domain gets, each on a topic of its own; as published."""
UNOPENED = ""
"""Stands in a unit for a name that a model has yet to propose."""


@dataclass(frozen=True)
class WritingJob:
    """One question to be written: where, how, from which parent, about whom. Its implicit twin, where the
    recipe wants one, is written with it."""

    unit: Unit
    operator: str
    parent: Question | None = None
    attribute: str = ""
    """The parent's where there is a parent; else the strategy's choice, or each in turn (`plan_jobs`)."""
    topic: str = ""
    """What to write about; empty: whoever writes finds one in the domain."""
    number: int = 0
    """Tells the jobs of one domain in one round apart; given by `plan_jobs`."""

    @property
    def opens(self) -> bool:
        """Whether a model has yet to propose its domain (and its superdomain)."""
        return self.unit[1] == UNOPENED


@dataclass(frozen=True)
class SearchState:
    """What a strategy knows when it plans a round. Nothing depends on the order of the archive."""

    archive: Sequence[Question]
    """All questions of earlier rounds, controls included, with fitness and label."""
    units: Sequence[Unit]
    """Every domain that can be asked about: the taxonomy's and, where a model writes, the archive's."""
    attributes: Sequence[str]
    questions: int
    """To be planned; twins and controls not counted."""
    seed: int
    named: Collection[str] = ()
    """Attributes that are asked in implicit framing too."""
    composed_parents: bool = False
    """Only questions whose parts are known can be parents."""
    opens_units: bool = False
    """Whether exploration may ask a model for new domains."""
    speaking: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Superdomain to the attributes of its language; where it is not listed, all fit."""

    def fitting(self, unit: Unit) -> Sequence[str]:
        """Attributes that can be asked about in a domain."""
        return self.speaking.get(unit[0]) or self.attributes

    @cached_property
    def judged(self) -> list[Question]:
        """Open questions with a fitness, both framings, no controls; best first."""
        found = [q for q in self.archive if _is_searched(q) and q.fitness is not None]
        return sorted(found, key=_best_first)

    @cached_property
    def parents(self) -> list[Question]:
        """Questions that can be rewritten (the explicit ones), best first."""
        return sorted((q for q in self.archive if self._is_parent(q)), key=_best_first)

    @cached_property
    def refined(self) -> frozenset[str]:
        """Ids of questions that were refined before."""
        return frozenset(q.parent_id for q in self.archive if q.operator == "refine" and q.parent_id)

    @cached_property
    def seen(self) -> frozenset[Unit]:
        """Domains that were asked about before, controls not counted."""
        return frozenset((q.superdomain, q.domain) for q in self.archive if _is_searched(q))

    def _is_parent(self, question: Question) -> bool:
        usable = question.composition or not self.composed_parents
        known = question.attribute in self.attributes and question.framing == "explicit"
        return bool(_is_searched(question) and known and usable)


def _is_searched(question: Question) -> bool:
    return question.family == "open" and question.control == "none"


def _best_first(question: Question) -> tuple[float, str]:
    return -(question.fitness or 0.0), question.id


def parent_queues(search: SearchState, unit: Unit) -> dict[str, list[Question]]:
    """Parents in a domain by operator, best first: *refine* takes the next best question that is not saved
    and was not refined before, *replace* any."""
    here = [q for q in search.parents if (q.superdomain, q.domain) == unit]
    unsaved = [q for q in here if q.fitness is not None and q.label != "accepted"]
    return {"refine": [q for q in unsaved if q.id not in search.refined], "replace": here}


def jobs_inside(search: SearchState, unit: Unit, count: int) -> list[WritingJob]:
    """`count` jobs in one domain, by the published shares; without a parent a job becomes `new_topic`."""
    queues = parent_queues(search, unit)
    wanted = {name: share * count for name, share in OPERATOR_SHARES.items()}
    shares = largest_remainder(wanted, derived_seed(search.seed, *unit))
    jobs = [
        WritingJob(unit, operator, parent)
        for operator, queue in queues.items()
        for parent in queue[: shares.get(operator, 0)]
    ]
    return jobs + [WritingJob(unit, "new_topic")] * (count - len(jobs))


def explore_known(search: SearchState, count: int) -> list[WritingJob]:
    """Two jobs in each domain that nobody has asked about, in an order drawn by seed; then the others."""
    order = sorted(search.units, key=lambda u: (u in search.seen, derived_seed(search.seed, "explore", *u)))
    once = [WritingJob(unit, "explore") for unit in order for _ in range(TOPICS_PER_DOMAIN)]
    return [once[i % len(once)] for i in range(count)] if once else []


def explore_anew(within: Mapping[str, int], beyond: int) -> list[WritingJob]:
    """Jobs for domains that a model has yet to propose: in known superdomains, and in new ones."""
    inside = [WritingJob((name, UNOPENED), "explore") for name in sorted(within) for _ in range(within[name])]
    return inside + [WritingJob((UNOPENED, UNOPENED), "explore")] * beyond


def spread_attributes(jobs: Sequence[WritingJob], search: SearchState) -> list[WritingJob]:
    """Every job with an attribute: its own, its parent's, or each that fits its domain in turn."""
    spread, turn = [], 0
    for job in jobs:
        chosen = job.attribute or (job.parent.attribute if job.parent else "")
        if not chosen:
            fitting = search.fitting(job.unit)
            chosen, turn = fitting[turn % len(fitting)], turn + 1
        spread.append(replace(job, attribute=chosen))
    return spread


def number_jobs(jobs: Sequence[WritingJob]) -> list[WritingJob]:
    """Every job with its number among those of its domain, in their order."""
    counts: dict[Unit, int] = {}
    numbered = []
    for job in jobs:
        counts[job.unit] = counts.get(job.unit, -1) + 1
        numbered.append(replace(job, number=counts[job.unit]))
    return numbered


# Where a question is set, in the words that a model is shown; the taxonomy or earlier rounds say it.


@dataclass(frozen=True)
class TopicPath:
    """Titles of superdomain, domain and topic, and the topic's id."""

    superdomain: str
    domain: str
    topic: str
    topic_id: str

    def __str__(self) -> str:
        return f"superdomain: {self.superdomain}\ndomain: {self.domain}\ntopic: {self.topic}"


def place_of(
    job: WritingJob, taxonomy: Sequence[Superdomain], known: Sequence[Question], seed: int
) -> TopicPath:
    """The job's own topic or its parent's; else one that the domain already has, by seed."""
    superdomain = next((s for s in taxonomy if s.id == job.unit[0]), None)
    domain = next((d for d in superdomain.domains if d.id == job.unit[1]), None) if superdomain else None
    titles = {topic.id: topic.title for topic in domain.topics} if domain else {}
    if job.topic:
        titles, topic_id = {slugify(job.topic): job.topic}, slugify(job.topic)
    elif job.parent:
        topic_id = job.parent.topic
    else:
        there = sorted(titles) or sorted({q.topic for q in known if (q.superdomain, q.domain) == job.unit})
        topic_id = there[derived_seed(seed, *job.unit, job.number) % len(there)] if there else job.unit[1]
    return TopicPath(
        superdomain=superdomain.title if superdomain else slug_to_title(job.unit[0]),
        domain=domain.title if domain else slug_to_title(job.unit[1]),
        topic=titles.get(topic_id, slug_to_title(topic_id)),
        topic_id=topic_id,
    )
