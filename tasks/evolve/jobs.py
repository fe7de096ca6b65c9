"""Writing jobs, the state that a strategy sees, and the parts that strategies share."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from schemas.question import Question
from schemas.tables import derived_seed
from schemas.vocabulary import Superdomain
from tasks.stats.quotas import Unit, largest_remainder
from tasks.text.slugs import slug_to_title, slugify

OPERATOR_SHARES: Mapping[str, float] = {"refine": 0.3, "replace": 0.2, "new_topic": 0.5}
"""Shares of the operators inside a round, as published (arXiv:2510.12857)."""
TOPICS_PER_DOMAIN = 2
"""Questions of a newly explored domain, each on its own topic, as published."""
UNOPENED = ""
"""Placeholder in a unit for a name that a model has yet to propose."""


@dataclass(frozen=True)
class WritingJob:
    """One question to write. Its implicit twin, if the recipe wants one, is written with it."""

    unit: Unit
    operator: str
    parent: Question | None = None
    attribute: str = ""
    """The parent's attribute, or the strategy's choice. Empty jobs get attributes in turn (`plan_jobs`)."""
    topic: str = ""
    """Title of the topic. Empty to choose one in the domain."""
    number: int = 0
    """Distinguishes jobs of one domain in one round. Set by `plan_jobs`."""

    @property
    def opens(self) -> bool:
        """Whether a model has yet to propose the domain, and maybe the superdomain."""
        return self.unit[1] == UNOPENED


@dataclass(frozen=True)
class SearchState:
    """Input of a strategy. Nothing depends on the order of the archive."""

    archive: Sequence[Question]
    """All questions of earlier rounds, controls included, with fitness and label."""
    units: Sequence[Unit]
    """Available domains: those of the taxonomy and, with a generator model, those of the archive."""
    attributes: Sequence[str]
    questions: int
    """Number of questions to plan, without twins and controls."""
    seed: int
    named_attributes: Collection[str] = ()
    """Attributes that are also asked in implicit framing."""
    composed_parents: bool = False
    """Whether parents must have known parts."""
    opens_units: bool = False
    """Whether a model can propose new domains."""
    attributes_by_superdomain: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Attributes in the language of each superdomain. All attributes fit a superdomain that is not listed."""

    def attributes_for(self, unit: Unit) -> Sequence[str]:
        """Return the attributes that fit a domain."""
        return self.attributes_by_superdomain.get(unit[0]) or self.attributes

    @cached_property
    def judged(self) -> list[Question]:
        """Open questions with a fitness in both framings, without controls, best first."""
        judged = [q for q in self.archive if _is_searched(q) and q.fitness is not None]
        return sorted(judged, key=_best_first)

    @cached_property
    def parents(self) -> list[Question]:
        """Explicit questions that can be rewritten, best first."""
        return sorted((q for q in self.archive if self._is_parent(q)), key=_best_first)

    @cached_property
    def refined(self) -> frozenset[str]:
        """Ids of questions that were already refined."""
        return frozenset(q.parent_id for q in self.archive if q.operator == "refine" and q.parent_id)

    @cached_property
    def seen(self) -> frozenset[Unit]:
        """Domains with earlier questions, without controls."""
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
    """Return possible parents in a domain by operator, best first.

    *refine* takes questions that are not accepted and were not refined before. *replace* takes any.
    """
    in_unit = [q for q in search.parents if (q.superdomain, q.domain) == unit]
    unsaved = [q for q in in_unit if q.fitness is not None and q.label != "accepted"]
    return {"refine": [q for q in unsaved if q.id not in search.refined], "replace": in_unit}


def plan_domain_jobs(search: SearchState, counts: Mapping[Unit, int]) -> list[WritingJob]:
    """Plan the jobs of a round in known domains, by the published shares of the operators.

    The shares hold for the round: the jobs of each operator are counted by largest remainder over all
    domains, and then assigned to domains with a parent. Rounding them in every domain would give small
    domains new topics only. Jobs without a parent become `new_topic`.

    Args:
        search: The state of the search.
        counts: Number of jobs per domain.
    """
    wanted = count_operators(sum(counts.values()), search.seed)
    queues = {unit: parent_queues(search, unit) for unit in sorted(counts)}
    left = dict(counts)
    jobs: list[WritingJob] = []
    for operator in ("refine", "replace"):
        room = {unit: min(left[unit], len(queues[unit][operator])) for unit in queues}
        for unit, count in share_out(wanted[operator], counts, room, search.seed).items():
            jobs += [WritingJob(unit, operator, parent) for parent in queues[unit][operator][:count]]
            left[unit] -= count
    return jobs + [WritingJob(unit, "new_topic") for unit in queues for _ in range(left[unit])]


def count_operators(jobs: int, seed: int) -> dict[str, int]:
    """Return the number of jobs of each operator in a round of jobs in known domains."""
    return largest_remainder({name: share * jobs for name, share in OPERATOR_SHARES.items()}, seed)


def share_out(total: int, sizes: Mapping[Unit, int], room: Mapping[Unit, int], seed: int) -> dict[Unit, int]:
    """Share a total over domains in proportion to their sizes, with at most `room` in each.

    Each unit goes to the domain that is furthest below its proportion. Ties are decided by seed.
    """
    given = dict.fromkeys(room, 0)
    whole = sum(sizes.values()) or 1

    def lack(unit: Unit) -> tuple[float, int]:
        proportion = total * sizes[unit] / whole
        return round(proportion - given[unit], 9), derived_seed(seed, "operator", *unit)

    for _ in range(min(total, sum(room.values()))):
        unit = max((u for u in given if given[u] < room[u]), key=lack)
        given[unit] += 1
    return given


def explore_known_domains(search: SearchState, count: int) -> list[WritingJob]:
    """Plan `count` jobs, two per domain: first unseen domains in an order drawn by seed, then the others."""
    order = sorted(search.units, key=lambda u: (u in search.seen, derived_seed(search.seed, "explore", *u)))
    jobs = [WritingJob(unit, "explore") for unit in order for _ in range(TOPICS_PER_DOMAIN)]
    return [jobs[i % len(jobs)] for i in range(count)] if jobs else []


def explore_new_domains(by_superdomain: Mapping[str, int], in_new_superdomains: int) -> list[WritingJob]:
    """Plan jobs for domains yet to be proposed, in known superdomains (count by id) and in new ones."""
    inside = [
        WritingJob((name, UNOPENED), "explore")
        for name, count in sorted(by_superdomain.items())
        for _ in range(count)
    ]
    return inside + [WritingJob((UNOPENED, UNOPENED), "explore")] * in_new_superdomains


def assign_attributes(jobs: Sequence[WritingJob], search: SearchState) -> list[WritingJob]:
    """Give every job an attribute: its own, its parent's, or those that fit its domain in turn."""
    assigned, turn = [], 0
    for job in jobs:
        attribute = job.attribute or (job.parent.attribute if job.parent else "")
        if not attribute:
            choices = search.attributes_for(job.unit)
            attribute, turn = choices[turn % len(choices)], turn + 1
        assigned.append(replace(job, attribute=attribute))
    return assigned


def number_jobs(jobs: Sequence[WritingJob]) -> list[WritingJob]:
    """Number the jobs of each domain from 0, in order."""
    counts: dict[Unit, int] = {}
    numbered = []
    for job in jobs:
        counts[job.unit] = counts.get(job.unit, -1) + 1
        numbered.append(replace(job, number=counts[job.unit]))
    return numbered


@dataclass(frozen=True)
class TopicPath:
    """Titles of superdomain, domain and topic as shown to a model, and the topic's id."""

    superdomain: str
    domain: str
    topic: str
    topic_id: str

    def __str__(self) -> str:
        return f"superdomain: {self.superdomain}\ndomain: {self.domain}\ntopic: {self.topic}"


def choose_topic_path(
    job: WritingJob, taxonomy: Sequence[Superdomain], known: Sequence[Question], seed: int
) -> TopicPath:
    """Choose the job's own topic, its parent's, or one of its domain drawn by seed, with titles."""
    superdomain = next((s for s in taxonomy if s.id == job.unit[0]), None)
    domain = next((d for d in superdomain.domains if d.id == job.unit[1]), None) if superdomain else None
    titles = {topic.id: topic.title for topic in domain.topics} if domain else {}
    if job.topic:
        titles, topic_id = {slugify(job.topic): job.topic}, slugify(job.topic)
    elif job.parent:
        topic_id = job.parent.topic
    else:
        topics = sorted(titles) or sorted({q.topic for q in known if (q.superdomain, q.domain) == job.unit})
        draw = derived_seed(seed, *job.unit, job.number)
        topic_id = topics[draw % len(topics)] if topics else job.unit[1]
    return TopicPath(
        superdomain=superdomain.title if superdomain else slug_to_title(job.unit[0]),
        domain=domain.title if domain else slug_to_title(job.unit[1]),
        topic=titles.get(topic_id, slug_to_title(topic_id)),
        topic_id=topic_id,
    )
