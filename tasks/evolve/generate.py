"""Fluency parity: where rules cannot say, a model reads all variants of a question side by side, before any
target is paid to answer one that reads badly for one value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import BaseModel, Field

from schemas.errors import InputError, ModelError
from schemas.labels import Dropped
from schemas.question import Question
from schemas.recipe import Recipe
from schemas.tables import content_id, derived_seed
from schemas.vocabulary import Attribute, Superdomain
from tasks.evolve.jobs import TopicPath, WritingJob, place_of
from tasks.models import ModelSettings, open_model, run_async
from tasks.models.prompts import Prompt, fence, read_prompt
from tasks.models.protocol import Decoding, Message, Request
from tasks.models.structured import Abstention, Parsed, Spent, ask_structured
from tasks.questions.binding import Draft
from tasks.questions.composition import DraftPair, wants_names
from tasks.run.progress import track
from tasks.run.store import RunContext
from tasks.text.slugs import slugify

PROMPT = "check_fluency"
FAULT = "fluency:judge"


class ReadVersion(BaseModel):
    """One version of the question, as read."""

    label: str = Field(description="as shown")
    problem: str = Field(description="what reads badly, or an empty string")
    fluent: int = Field(ge=0, le=1, description="1: correct, and reads as well as the others")


class ReadVersions(BaseModel):
    """What the model returns."""

    versions: list[ReadVersion]


@dataclass(frozen=True)
class FluencyCheck:
    """Which questions were read, which of them read badly for some value, and what it cost."""

    reader: str = ""
    read: int = 0
    unfit: frozenset[str] = frozenset()
    abstained: int = 0
    """Read without a usable verdict: these questions stay."""
    spent: tuple[Spent, ...] = ()


def reader_of(recipe: Recipe) -> str | None:
    """The first model among the judges, where the recipe wants one to read."""
    if recipe.evolve.fluency == "rules":
        return None
    return next((judge for judge in recipe.models.judges if ":" in judge), None)


def needs_reader(question: Question) -> bool:
    """Whether rules cannot say: a model wrote it. What is put together from the vocabulary was read when that
    was written, and the variants of an A/A control are one text."""
    return question.family == "open" and question.control == "none" and question.composition is None


def read_variants(context: RunContext, questions: Iterable[Question]) -> FluencyCheck:
    """One call for each question that needs a reader. Without a reader, none."""
    reader = reader_of(context.recipe)
    asked = sorted((q for q in questions if needs_reader(q)), key=lambda q: q.id)
    if reader is None or not asked:
        return FluencyCheck()
    answers = run_async(_ask(context, reader, asked))
    verdicts = {q.id: verdict_of(q, answers[_tag(q)]) for q in asked}
    return FluencyCheck(
        reader=reader,
        read=len(asked),
        unfit=frozenset(key for key, fluent in verdicts.items() if fluent is False),
        abstained=sum(fluent is None for fluent in verdicts.values()),
        spent=tuple(answers[_tag(q)].spent for q in asked),
    )


async def _ask(
    context: RunContext, reader: str, questions: Sequence[Question]
) -> dict[str, Parsed[ReadVersions] | Abstention]:
    prompt = read_prompt(Path(context.data_dir), PROMPT)
    requests = [request_for(context.recipe, prompt, question) for question in questions]
    answers: dict[str, Parsed[ReadVersions] | Abstention] = {}
    async with open_model(reader, ModelSettings.of(context)) as model:
        with track(f"{reader} reads", len(requests)) as bar:
            async for answer in ask_structured(model, requests, ReadVersions):
                answers[answer.tag] = answer
                bar.advance()
    return answers


def _tag(question: Question) -> str:
    return content_id("read", question.id)


def request_for(recipe: Recipe, prompt: Prompt, question: Question) -> Request:
    """All variants in an order drawn by seed."""
    seed = derived_seed(recipe.seed, PROMPT, question.id)
    texts = sorted((v.text for v in question.variants), key=lambda text: derived_seed(seed, text))
    shown = [fence(text, label) for label, text in zip(labels(question), texts, strict=True)]
    return Request(
        tag=_tag(question),
        messages=prompt.fill(variants="\n\n".join(shown)),
        decoding=Decoding(max_tokens=recipe.judging.max_tokens, temperature=0.0, seed=seed),
        stage="mutate",
    )


def labels(question: Question) -> list[str]:
    return [f"version-{place}" for place in range(1, len(question.variants) + 1)]


def verdict_of(question: Question, answer: Parsed[ReadVersions] | Abstention) -> bool | None:
    """Whether every version reads well; nothing where that was not said of each of them."""
    if isinstance(answer, Abstention):
        return None
    said = {version.label.strip(): version.fluent for version in answer.value.versions}
    if sorted(said) != sorted(labels(question)) or len(said) != len(answer.value.versions):
        return None
    return all(said.values())


# A generator with a model: it refines, replaces or invents, in words of its own.
#
# The model writes *unbound* texts: the person appears as `{noun}` (and `{subject}`, `{possessive}`, …), never
# as a word for one group. Binding does the rest, so that variants match whatever the model does.


EXAMPLES, STYLES = 3, 2
"""Saved questions of the domain, and of others, that a new topic is written beside (arXiv 2510.12857)."""


class WrittenQuestion(BaseModel):
    """What the model returns."""

    topic: str = Field(description="two to five words that say what the question is about")
    explicit: str = Field(description="the question, the person written as {noun}")
    implicit: str = Field(description="the same question, the person written by name as {name}")


@dataclass(frozen=True)
class Written:
    """Drafts that were written, jobs that failed (as dropped records), and what the calls cost."""

    pairs: tuple[DraftPair, ...]
    failed: tuple[Dropped, ...] = ()
    spent: tuple[Spent, ...] = ()


def write_with_model(
    context: RunContext,
    jobs: Sequence[WritingJob],
    known: Sequence[Question],
    attributes: Sequence[Attribute],
    taxonomy: Sequence[Superdomain],
    *,
    round: int,
    seed: int,
) -> Written:
    """One call per job. A job without a usable answer is a failed row, never a made-up question.

    Raises `ModelError` when no job at all succeeds.
    """
    by_id = {attribute.id: attribute for attribute in attributes}
    chosen = {
        job_tag(job, round): (job, by_id[job.attribute], place_of(job, taxonomy, known, seed)) for job in jobs
    }
    limit = context.recipe.evolve.max_tokens
    requests = [
        Request(
            tag=tag,
            messages=messages_for(Path(context.data_dir), job, attribute, place, known),
            decoding=Decoding(max_tokens=limit, seed=derived_seed(seed, tag)),
            stage="mutate",
        )
        for tag, (job, attribute, place) in chosen.items()
    ]
    answers = run_async(_ask_generate(context, requests))
    pairs, failed = [], []
    for tag, (job, attribute, place) in chosen.items():
        made = _pair_of(context, answers[tag], job, attribute, place, round)
        if isinstance(made, DraftPair):
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
    return Written(tuple(pairs), tuple(failed), tuple(answers[tag].spent for tag in chosen))


async def _ask_generate(
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


def job_tag(job: WritingJob, round: int) -> str:
    """A job's own key in its round."""
    return content_id("job", round, list(job.unit), job.operator, job.number, job.parent and job.parent.id)


def unbound_text(question: Question, attribute: Attribute) -> str:
    """A question's text with `{noun}` again where its slots hold the nouns of the values."""
    text = question.template
    for form in ("noun", "subject", "object", "possessive", "reflexive", "name"):
        options = [attribute.value(v).forms.get(form, ("",))[0] for v in question.values]
        text = text.replace("{{" + "/".join(options) + "}}", "{" + form + "}")
    return text


def messages_for(
    data_dir: Path, job: WritingJob, attribute: Attribute, place: TopicPath, known: Sequence[Question]
) -> tuple[Message, ...]:
    """The operator's prompt, with the parent and, beside it, the best saved questions about the attribute: of
    the domain, and from elsewhere."""
    saved = sorted(
        (q for q in known if q.label == "accepted" and q.attribute == attribute.id and q.family == "open"),
        key=lambda q: (-(q.fitness or 0.0), q.id),
    )
    here = [q for q in saved if (q.superdomain, q.domain) == job.unit]
    elsewhere = [q for q in saved if (q.superdomain, q.domain) != job.unit]
    return read_prompt(data_dir, f"generate_{job.operator}").fill(
        attribute=attribute.title,
        place=fence(str(place), "place"),
        parent=fence(unbound_text(job.parent, attribute), "question") if job.parent else "",
        examples=_shown(here[:EXAMPLES], attribute),
        style=_shown(elsewhere[:STYLES], attribute),
    )


def _shown(questions: Sequence[Question], attribute: Attribute) -> str:
    texts = [fence(unbound_text(question, attribute), "question") for question in questions]
    return "\n".join(texts) or "(none yet)"


def _pair_of(
    context: RunContext,
    answer: Parsed[WrittenQuestion] | Abstention,
    job: WritingJob,
    attribute: Attribute,
    place: TopicPath,
    round: int,
) -> DraftPair | str:
    """The drafts, or the reason why there are none."""
    if isinstance(answer, Abstention):
        return answer.reason
    topic = slugify(answer.value.topic) if job.operator == "new_topic" else place.topic_id
    draft = Draft(
        text=" ".join(answer.value.explicit.split()),
        family="open",
        superdomain=job.unit[0],
        domain=job.unit[1],
        topic=topic,
        origin="evolved",
        operator=job.operator,
        parent_id=job.parent.id if job.parent else None,
        round=round,
    )
    named = replace(draft, text=" ".join(answer.value.implicit.split()), framing="implicit")
    pair = DraftPair(
        draft, named if wants_names(context.recipe.families["open"], attribute) else None, attribute
    )
    try:
        pair.bind(context.recipe.seed)
    except InputError:
        return "broken_slots"
    return pair


def _failed_job(tag: str, job: WritingJob, reason: str) -> Dropped:
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
