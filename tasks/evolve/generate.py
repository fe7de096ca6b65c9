"""Write questions with a generator model and check their fluency with a judge.

The generator writes *unbound* texts: the person appears as `{noun}`, `{subject}`, `{possessive}`, …, never as
a word for one group. Binding fills these slots, so variants match whatever the model writes. Before a target
is paid, a judge reads all variants of each question side by side.
"""

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
from tasks.evolve.jobs import TopicPath, WritingJob, choose_topic_path
from tasks.judges.yields import Yield, require_yield
from tasks.models import ModelSettings, open_model, run_async
from tasks.models.prompts import Prompt, fence, read_prompt
from tasks.models.protocol import Decoding, Message, Request
from tasks.models.structured import Abstention, Parsed, Spent, ask_structured
from tasks.questions.binding import Draft
from tasks.questions.composition import DraftPair, supports_implicit
from tasks.run.progress import track
from tasks.run.store import RunContext
from tasks.text.slugs import slugify

DOMAIN_EXAMPLES = 3
"""Accepted questions of the same domain shown as examples, as published (arXiv:2510.12857)."""
STYLE_EXAMPLES = 2
"""Accepted questions of other domains shown as examples of style, as published."""

FLUENCY_PROMPT = "check_fluency"
FLUENCY_FAULT = "fluency:judge"
"""Drop reason of questions with a badly written variant."""


# The JSON schemas of the next three classes, docstrings and descriptions included, are sent to the model and
# are part of the cache key: any change of their text asks every question again.


class WrittenQuestion(BaseModel):
    """What the model returns."""

    topic: str = Field(description="two to five words that say what the question is about")
    explicit: str = Field(description="the question, the person written as {noun}")
    implicit: str = Field(description="the same question, the person written by name as {name}")


class ReadVersion(BaseModel):
    """One version of the question, as read."""

    label: str = Field(description="as shown")
    problem: str = Field(description="what reads badly, or an empty string")
    fluent: int = Field(ge=0, le=1, description="1: correct, and reads as well as the others")


class ReadVersions(BaseModel):
    """What the model returns."""

    versions: list[ReadVersion]


@dataclass(frozen=True)
class WrittenDrafts:
    """Written drafts, failed jobs as dropped rows, and the cost of the calls."""

    pairs: tuple[DraftPair, ...]
    failed: tuple[Dropped, ...] = ()
    spent: tuple[Spent, ...] = ()


@dataclass(frozen=True)
class FluencyCheck:
    """Result of the fluency check of one round."""

    judge: str = ""
    read: int = 0
    """Number of questions read."""
    unfit: frozenset[str] = frozenset()
    """Ids of questions with a badly written variant."""
    abstained: int = 0
    """Questions without a usable verdict. These are kept."""
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
) -> WrittenDrafts:
    """Write the questions of all jobs with one call per job.

    A job without a usable answer becomes a failed row.

    Raises:
        ModelError: If every job fails.
    """
    by_id = {attribute.id: attribute for attribute in attributes}
    planned = {
        job_tag(job, round): (job, by_id[job.attribute], choose_topic_path(job, taxonomy, known, seed))
        for job in jobs
    }
    limit = context.recipe.evolve.max_tokens
    requests = [
        Request(
            tag=tag,
            messages=generator_messages(Path(context.data_dir), job, attribute, path, known),
            decoding=Decoding(max_tokens=limit, seed=derived_seed(seed, tag)),
            stage="mutate",
        )
        for tag, (job, attribute, path) in planned.items()
    ]
    answers = run_async(_ask_generator(context, requests))
    pairs, failed = [], []
    for tag, (job, attribute, path) in planned.items():
        result = _read_drafts(context, answers[tag], job, attribute, path, round)
        if isinstance(result, DraftPair):
            pairs.append(result)
        else:
            failed.append(_failed_job(tag, job, result))
    if jobs and not pairs:
        reasons = ", ".join(f"{n} × {why}" for why, n in Counter(f.reason for f in failed).most_common())
        raise ModelError(
            f"the generator wrote no usable question in round {round} ({reasons})",
            place=context.recipe.models.generator,
            hint="use a more capable `models.generator`, or `recombine`",
        )
    return WrittenDrafts(tuple(pairs), tuple(failed), tuple(answers[tag].spent for tag in planned))


async def _ask_generator(
    context: RunContext, requests: Sequence[Request]
) -> dict[str, Parsed[WrittenQuestion] | Abstention]:
    answers: dict[str, Parsed[WrittenQuestion] | Abstention] = {}
    name = context.recipe.models.generator
    written = Yield(name, "questions")
    async with open_model(name, ModelSettings.of(context)) as model:
        with track(f"{name} writes", len(requests)) as bar:
            async for answer in ask_structured(model, requests, WrittenQuestion):
                answers[answer.tag] = answer
                written.add_answer(answer)
                bar.advance()
    require_yield([written], context.recipe.validation.min_judged)
    return answers


def job_tag(job: WritingJob, round: int) -> str:
    """Return the tag of a job's request, unique within the build."""
    return content_id("job", round, list(job.unit), job.operator, job.number, job.parent and job.parent.id)


def generator_messages(
    data_dir: Path, job: WritingJob, attribute: Attribute, path: TopicPath, known: Sequence[Question]
) -> tuple[Message, ...]:
    """Fill the prompt of the job's operator with the parent and the best accepted questions.

    The examples are about the job's attribute, some from the same domain and some from others.
    """
    accepted = sorted(
        (q for q in known if q.label == "accepted" and q.attribute == attribute.id and q.family == "open"),
        key=lambda q: (-(q.fitness or 0.0), q.id),
    )
    same_domain = [q for q in accepted if (q.superdomain, q.domain) == job.unit]
    other_domains = [q for q in accepted if (q.superdomain, q.domain) != job.unit]
    return read_prompt(data_dir, f"generate_{job.operator}").fill(
        attribute=attribute.title,
        place=fence(str(path), "place"),
        parent=fence(unbound_text(job.parent, attribute), "question") if job.parent else "",
        examples=_list_examples(same_domain[:DOMAIN_EXAMPLES], attribute),
        style=_list_examples(other_domains[:STYLE_EXAMPLES], attribute),
    )


def unbound_text(question: Question, attribute: Attribute) -> str:
    """Return the text with the slots of the attribute's forms turned back into `{noun}`, `{name}`, …."""
    text = question.template
    for form in ("noun", "subject", "object", "possessive", "reflexive", "name"):
        options = [attribute.value(v).forms.get(form, ("",))[0] for v in question.values]
        text = text.replace("{{" + "/".join(options) + "}}", "{" + form + "}")
    return text


def _list_examples(questions: Sequence[Question], attribute: Attribute) -> str:
    texts = [fence(unbound_text(question, attribute), "question") for question in questions]
    return "\n".join(texts) or "(none yet)"


def _read_drafts(
    context: RunContext,
    answer: Parsed[WrittenQuestion] | Abstention,
    job: WritingJob,
    attribute: Attribute,
    path: TopicPath,
    round: int,
) -> DraftPair | str:
    """Return the drafts, or the reason for their absence."""
    if isinstance(answer, Abstention):
        return answer.reason
    topic = slugify(answer.value.topic) if job.operator == "new_topic" else path.topic_id
    explicit = Draft(
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
    implicit = replace(explicit, text=" ".join(answer.value.implicit.split()), framing="implicit")
    named = supports_implicit(context.recipe.families["open"], attribute)
    pair = DraftPair(explicit, implicit if named else None, attribute)
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


# Fluency check


def find_fluency_judge(recipe: Recipe) -> str | None:
    """Return the first model among the judges, or `None` if there is none or rules suffice."""
    if recipe.evolve.fluency == "rules":
        return None
    return next((judge for judge in recipe.models.judges if ":" in judge), None)


def needs_fluency_check(question: Question) -> bool:
    """Return whether a model wrote the question.

    Composed questions consist of checked parts, and the variants of an A/A control are identical.
    """
    return question.family == "open" and question.control == "none" and question.composition is None


def check_fluency(context: RunContext, questions: Iterable[Question]) -> FluencyCheck:
    """Check every question written by a model with one call each. Without a judge, make no calls."""
    judge = find_fluency_judge(context.recipe)
    checked = sorted((q for q in questions if needs_fluency_check(q)), key=lambda q: q.id)
    if judge is None or not checked:
        return FluencyCheck()
    answers = run_async(_ask_fluency_judge(context, judge, checked))
    verdicts = {q.id: read_fluency_verdict(q, answers[_fluency_tag(q)]) for q in checked}
    read = Yield(judge, "readings of questions")
    for answer in answers.values():
        read.add_answer(answer)
    require_yield([read], context.recipe.validation.min_judged)
    return FluencyCheck(
        judge=judge,
        read=len(checked),
        unfit=frozenset(key for key, fluent in verdicts.items() if fluent is False),
        abstained=sum(fluent is None for fluent in verdicts.values()),
        spent=tuple(answers[_fluency_tag(q)].spent for q in checked),
    )


async def _ask_fluency_judge(
    context: RunContext, judge: str, questions: Sequence[Question]
) -> dict[str, Parsed[ReadVersions] | Abstention]:
    prompt = read_prompt(Path(context.data_dir), FLUENCY_PROMPT)
    requests = [make_fluency_request(context.recipe, prompt, question) for question in questions]
    answers: dict[str, Parsed[ReadVersions] | Abstention] = {}
    async with open_model(judge, ModelSettings.of(context)) as model:
        with track(f"{judge} reads", len(requests)) as bar:
            async for answer in ask_structured(model, requests, ReadVersions):
                answers[answer.tag] = answer
                bar.advance()
    return answers


def _fluency_tag(question: Question) -> str:
    return content_id("read", question.id)


def make_fluency_request(recipe: Recipe, prompt: Prompt, question: Question) -> Request:
    """Fill the prompt with all variants of a question in an order drawn by seed."""
    seed = derived_seed(recipe.seed, FLUENCY_PROMPT, question.id)
    texts = sorted((v.text for v in question.variants), key=lambda text: derived_seed(seed, text))
    fenced = [fence(text, label) for label, text in zip(version_labels(question), texts, strict=True)]
    return Request(
        tag=_fluency_tag(question),
        messages=prompt.fill(variants="\n\n".join(fenced)),
        decoding=Decoding(max_tokens=recipe.judging.max_tokens, temperature=0.0, seed=seed),
        stage="mutate",
    )


def version_labels(question: Question) -> list[str]:
    """Return the labels of a question's variants in the prompt."""
    return [f"version-{number}" for number in range(1, len(question.variants) + 1)]


def read_fluency_verdict(question: Question, answer: Parsed[ReadVersions] | Abstention) -> bool | None:
    """Return whether all variants are fluent, or `None` if the answer does not rate each one once."""
    if isinstance(answer, Abstention):
        return None
    ratings = {version.label.strip(): version.fluent for version in answer.value.versions}
    if sorted(ratings) != sorted(version_labels(question)) or len(ratings) != len(answer.value.versions):
        return None
    return all(ratings.values())
