"""Fluency parity: where rules cannot say, a model reads all variants of a question side by side, before any
target is paid to answer one that reads badly for one value."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, Field

from schemas.ids import content_id, derived_seed
from schemas.question import Question
from schemas.recipe import Recipe
from tasks.models.connect import ModelSettings, open_model, run_async
from tasks.models.protocol import Decoding, Request
from tasks.models.structured import Abstention, Parsed, Spent, ask_structured
from tasks.progress import track
from tasks.store import RunContext
from tasks.text.prompts import Prompt, fence, read_prompt

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
class Reading:
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


def read_variants(context: RunContext, questions: Iterable[Question]) -> Reading:
    """One call for each question that needs a reader. Without a reader, none."""
    reader = reader_of(context.recipe)
    asked = sorted((q for q in questions if needs_reader(q)), key=lambda q: q.id)
    if reader is None or not asked:
        return Reading()
    answers = run_async(_ask(context, reader, asked))
    verdicts = {q.id: verdict_of(q, answers[_tag(q)]) for q in asked}
    return Reading(
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
