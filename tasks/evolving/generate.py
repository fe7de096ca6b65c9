"""A generator with a model: it refines, replaces or invents, in words of its own.

The model writes *unbound* texts: the person appears as `{noun}` (and `{subject}`, `{possessive}`, …), never
as a word for one group. Binding does the rest, so that variants match whatever the model does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, Field

from schemas.attribute import Attribute
from schemas.decision import Dropped
from schemas.errors import InputError, ModelError
from schemas.ids import content_id, derived_seed
from schemas.manifest import StageCost
from schemas.question import Question
from schemas.vocabulary import Domain, Superdomain, Topic
from tasks.evolving.shares import Job
from tasks.formats.vocabulary import read_taxonomy
from tasks.models.connect import ModelSettings, open_model, run_async
from tasks.models.protocol import Decoding, Message, Request
from tasks.models.structured import Abstention, Parsed, ask_structured
from tasks.progress import track
from tasks.store import RunContext
from tasks.text.expansion import Pair, all_topics, wants_names
from tasks.text.prompts import fence, read_prompt
from tasks.text.questions import Draft

MAX_TOKENS = 400
PROMPTS = {
    "refine": "generate_refine",
    "replace": "generate_replace",
    "new_topic": "generate_new_topic",
    "explore": "generate_new_topic",
}


class WrittenQuestion(BaseModel):
    """What the model returns."""

    topic: str = Field(description="two to five words that say what the question is about")
    explicit: str = Field(description="the question, the person written as {noun}")
    implicit: str = Field(description="the same question, the person written by name as {name}")


@dataclass(frozen=True)
class Written:
    """Drafts that were written, jobs that failed (as dropped records), and what it cost."""

    pairs: tuple[Pair, ...]
    failed: tuple[Dropped, ...] = ()
    costs: tuple[StageCost, ...] = ()


def write_with_model(
    context: RunContext,
    jobs: Sequence[Job],
    known: Sequence[Question],
    attributes: Sequence[Attribute],
    *,
    round: int,
    seed: int,
) -> Written:
    """One call per job. A job without a usable answer is a failed row, never a made-up question.

    Raises `ModelError` when no job at all succeeds.
    """
    data_dir = Path(context.data_dir)
    leaves = all_topics(read_taxonomy(data_dir, context.recipe.superdomains))
    chosen = {
        job_tag(job, round): (job, attribute_of(job, attributes, turn), leaf_of(job, leaves, seed))
        for turn, job in enumerate(jobs)
    }
    requests = [
        Request(
            tag=tag,
            messages=messages_for(data_dir, job, attribute, leaf, known),
            decoding=Decoding(max_tokens=MAX_TOKENS, seed=derived_seed(seed, tag)),
            stage="mutate",
        )
        for tag, (job, attribute, leaf) in chosen.items()
    ]
    answers = run_async(_ask(context, requests))
    pairs, failed = [], []
    for tag, (job, attribute, leaf) in chosen.items():
        made = _pair_of(context, answers[tag], job, attribute, leaf, round)
        if isinstance(made, Pair):
            pairs.append(made)
        else:
            failed.append(_failed_job(tag, job, made))
    if jobs and not pairs:
        reasons = ", ".join(f"{n} × {why}" for why, n in Counter(f.reason for f in failed).most_common())
        raise ModelError(
            f"the generator wrote no usable question in round {round} ({reasons})",
            place=context.recipe.models.generator,
            hint="use a more capable `models.generator`, or `recombine`",
        )
    return Written(tuple(pairs), tuple(failed), (_cost(context, answers.values()),))


async def _ask(
    context: RunContext, requests: Sequence[Request]
) -> dict[str, Parsed[WrittenQuestion] | Abstention]:
    answers: dict[str, Parsed[WrittenQuestion] | Abstention] = {}
    name = context.recipe.models.generator
    async with open_model(name, ModelSettings.of(context)) as model:
        with track(f"{name} writes", len(requests)) as bar:
            async for answer in ask_structured(model, requests, WrittenQuestion):
                answers[answer.tag] = answer
                bar.advance()
    return answers


def job_tag(job: Job, round: int) -> str:
    """A job's own key in its round."""
    return content_id("job", round, list(job.unit), job.operator, job.number, job.parent and job.parent.id)


def attribute_of(job: Job, attributes: Sequence[Attribute], turn: int) -> Attribute:
    """The parent's attribute, or each in turn."""
    if job.parent is not None:
        return next((a for a in attributes if a.id == job.parent.attribute), attributes[0])
    return attributes[turn % len(attributes)]


def leaf_of(
    job: Job, leaves: Sequence[tuple[Superdomain, Domain, Topic]], seed: int
) -> tuple[Superdomain, Domain, Topic]:
    """A topic of the job's domain, by seed: the model is shown it as the neighbourhood to write in."""
    here = [leaf for leaf in leaves if (leaf[0].id, leaf[1].id) == job.unit]
    return here[derived_seed(seed, *job.unit, job.number) % len(here)]


def unbound_text(question: Question, attribute: Attribute) -> str:
    """A question's text with `{noun}` again where its slots hold the nouns of the values."""
    text = question.template
    for form in ("noun", "subject", "object", "possessive", "reflexive", "name"):
        options = [attribute.value(v).forms.get(form, ("",))[0] for v in question.values]
        text = text.replace("{{" + "/".join(options) + "}}", "{" + form + "}")
    return text


def messages_for(
    data_dir: Path,
    job: Job,
    attribute: Attribute,
    leaf: tuple[Superdomain, Domain, Topic],
    known: Sequence[Question],
) -> tuple[Message, ...]:
    """The operator's prompt, with the parent and up to three saved questions of the domain as examples."""
    superdomain, domain, topic = leaf
    saved = sorted(
        (q for q in known if q.label == "accepted" and (q.superdomain, q.domain) == job.unit),
        key=lambda q: (-(q.fitness or 0.0), q.id),
    )
    examples = [unbound_text(q, attribute) for q in saved if q.attribute == attribute.id][:3]
    return read_prompt(data_dir, PROMPTS[job.operator]).fill(
        attribute=attribute.title,
        superdomain=superdomain.title,
        domain=domain.title,
        topic=job.parent.topic if job.parent else topic.title,
        parent=fence(unbound_text(job.parent, attribute), "question") if job.parent else "",
        examples="\n".join(fence(e, "question") for e in examples) or "(none yet)",
    )


def _pair_of(
    context: RunContext,
    answer: Parsed[WrittenQuestion] | Abstention,
    job: Job,
    attribute: Attribute,
    leaf: tuple[Superdomain, Domain, Topic],
    round: int,
) -> Pair | str:
    """The drafts, or the reason why there are none."""
    if isinstance(answer, Abstention):
        return answer.reason
    explicit = _draft(answer.value, answer.value.explicit, job, leaf, attribute, round)
    implicit = _draft(answer.value, answer.value.implicit, job, leaf, attribute, round, named=True)
    named = wants_names(context.recipe.families["open"], attribute)
    pair = Pair(explicit, implicit if named else None, attribute)
    try:
        pair.bind(context.recipe.seed)
    except InputError:
        return "broken_slots"
    return pair


def _draft(
    written: WrittenQuestion,
    text: str,
    job: Job,
    leaf: tuple[Superdomain, Domain, Topic],
    attribute: Attribute,
    round: int,
    *,
    named: bool = False,
) -> Draft:
    keep_topic = job.parent is not None and job.operator in ("refine", "replace")
    return Draft(
        text=" ".join(text.split()),
        family="open",
        superdomain=job.unit[0],
        domain=job.unit[1],
        topic=job.parent.topic if keep_topic and job.parent else written.topic.strip().lower()[:80],
        origin="evolved",
        framing="implicit" if named else "explicit",
        operator=job.operator,
        parent_id=job.parent.id if job.parent else None,
        round=round,
    )


def _failed_job(tag: str, job: Job, reason: str) -> Dropped:
    return Dropped(
        id=tag,
        kind="question",
        stage="mutate",
        reason=reason,
        because_of=job.parent.id if job.parent else None,
        similarity=None,
        text="",
        record="{}",
    )


def _cost(context: RunContext, answers: Iterable[Parsed[WrittenQuestion] | Abstention]) -> StageCost:
    spent = [answer.spent for answer in answers]
    return StageCost(
        stage="mutate",
        model=context.recipe.models.generator,
        calls=sum(s.tries for s in spent),
        tokens_in=sum(s.tokens_in for s in spent),
        tokens_out=sum(s.tokens_out for s in spent),
        cost_usd=round(sum(s.cost_usd for s in spent), 6),
    )
