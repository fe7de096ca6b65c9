"""Where a question is set, in the words that a model is shown; the taxonomy or earlier rounds say it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from schemas.ids import derived_seed
from schemas.question import Question
from schemas.vocabulary import Superdomain
from tasks.evolving.jobs import Job
from tasks.text.identifiers import identifier, title_of


@dataclass(frozen=True)
class Place:
    """Titles of superdomain, domain and topic, and the topic's id."""

    superdomain: str
    domain: str
    topic: str
    topic_id: str

    def __str__(self) -> str:
        return f"superdomain: {self.superdomain}\ndomain: {self.domain}\ntopic: {self.topic}"


def place_of(job: Job, taxonomy: Sequence[Superdomain], known: Sequence[Question], seed: int) -> Place:
    """The job's own topic or its parent's; else one that the domain already has, by seed."""
    superdomain = next((s for s in taxonomy if s.id == job.unit[0]), None)
    domain = next((d for d in superdomain.domains if d.id == job.unit[1]), None) if superdomain else None
    titles = {topic.id: topic.title for topic in domain.topics} if domain else {}
    if job.topic:
        titles, topic_id = {identifier(job.topic): job.topic}, identifier(job.topic)
    elif job.parent:
        topic_id = job.parent.topic
    else:
        there = sorted(titles) or sorted({q.topic for q in known if (q.superdomain, q.domain) == job.unit})
        topic_id = there[derived_seed(seed, *job.unit, job.number) % len(there)] if there else job.unit[1]
    return Place(
        superdomain=superdomain.title if superdomain else title_of(job.unit[0]),
        domain=domain.title if domain else title_of(job.unit[1]),
        topic=titles.get(topic_id, title_of(topic_id)),
        topic_id=topic_id,
    )
