"""Respond: every variant is put to every target, every answer or failure becomes a row."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from schemas.answers import RESPONSES, Phase, Response, Scoring
from schemas.labels import StageCounts
from schemas.question import QUESTIONS, Question
from schemas.recipe import Recipe
from schemas.release import StageCost
from schemas.tables import content_id
from tasks.families import Ask, conditions_of, plan_asks, read_answer, read_asking_prompts, request_for
from tasks.judges.words import is_refusal, read_refusal_phrases
from tasks.models import ModelSettings, open_model, run_async
from tasks.models.protocol import Completion, Failure, FailureCount, Model, Request
from tasks.models.protocol import Outcome as CallOutcome
from tasks.models.replay import log_perplexity, option_logprobs
from tasks.run.progress import ProgressBar, track
from tasks.run.store import Outcome, RowSpool, RunContext, Stage, TableRef, scan_table

T = TypeVar("T")


def respond(context: RunContext, questions: TableRef, phase: Phase) -> Outcome:
    """Ask all questions of all targets of the phase: variants × samples × targets calls. Neither questions
    nor answers are ever all in memory."""
    rows = RowSpool(RESPONSES, Path(context.run_dir))
    tally = AnswerCounts(FailureCount(context.recipe.validation.max_failure_rate))
    for model in models_of(context.recipe, phase):
        run_async(ask_model(context, model, questions, phase, rows, tally))
    tally.failures.refuse()
    failed = tally.failures.failed
    counts = StageCounts(
        stage="respond", unit="requests", rows=len(rows), kept=len(rows) - failed, dropped=0, failed=failed
    )
    return Outcome(tables={RESPONSES: rows}, counts=(counts,), costs=tally.costs("respond"))


def is_asked(question: Question, phase: Phase) -> bool:
    """On hold-out, what was searched for is asked afresh: accepted advice questions, and their controls."""
    return phase == "search" or (question.family == "open" and question.label in ("accepted", "control"))


@dataclass
class AnswerCounts:
    """What is counted while the answers go by."""

    failures: FailureCount
    spent: dict[str, StageCost] = field(default_factory=dict)
    """Calls, tokens and dollars by model."""

    def add(self, row: Response, outcome: CallOutcome) -> None:
        self.failures.add(row.model, outcome)
        so_far = self.spent.get(row.model)
        self.spent[row.model] = StageCost(
            stage="",
            model=row.model,
            calls=1 + (so_far.calls if so_far else 0),
            tokens_in=row.tokens_in + (so_far.tokens_in if so_far else 0),
            tokens_out=row.tokens_out + (so_far.tokens_out if so_far else 0),
            cost_usd=row.cost_usd + (so_far.cost_usd if so_far else 0.0),
        )

    def costs(self, stage: str) -> tuple[StageCost, ...]:
        """By model, in the order of their names."""
        return tuple(
            cost.model_copy(update={"stage": stage, "cost_usd": round(cost.cost_usd, 6)})
            for _, cost in sorted(self.spent.items())
        )


def models_of(recipe: Recipe, phase: Phase) -> tuple[str, ...]:
    """Who answers in a phase: the targets of the search, or those that were held back from it."""
    if phase == "holdout" and recipe.models.holdout_targets:
        return recipe.models.holdout_targets
    return recipe.models.targets


async def ask_model(
    context: RunContext,
    name: str,
    questions: TableRef,
    phase: Phase,
    rows: RowSpool[Response],
    tally: AnswerCounts,
) -> None:
    """Append all answers of one model, in the order of questions, variants and samples."""
    recipe, data_dir = context.recipe, Path(context.data_dir)
    prompts = read_asking_prompts(data_dir, tuple(recipe.families))
    phrases = read_refusal_phrases(data_dir)
    total = sum(1 for _ in asks_of(context, questions, phase))
    if not total:
        return
    asked = ((ask, request_for(ask, recipe, prompts)) for ask in asks_of(context, questions, phase))
    async with open_model(name, ModelSettings.of(context)) as model:
        with track(f"{name} answers ({phase})", total) as bar:
            async for ask, outcome in in_order(model, asked, bar):
                row = record_answer(ask, name, outcome, phrases)
                rows.append(row)
                tally.add(row, outcome)


def asks_of(context: RunContext, questions: TableRef, phase: Phase) -> Iterator[Ask]:
    """Every call to one model, question by question as they lie in the table."""
    recipe, data_dir = context.recipe, Path(context.data_dir)
    conditions = {family: conditions_of(recipe, data_dir, family) for family in recipe.families}
    for question in scan_table(questions, QUESTIONS):
        if is_asked(question, phase):
            yield from plan_asks(recipe, question, phase, conditions[question.family])


async def in_order(
    model: Model, asked: Iterable[tuple[T, Request]], bar: ProgressBar
) -> AsyncIterator[tuple[T, CallOutcome]]:
    """Outcomes in the order of the requests. One that comes early waits in memory for those before it."""
    out: OrderedDict[str, T] = OrderedDict()
    early: dict[str, CallOutcome] = {}

    def drawn() -> Iterator[Request]:
        for subject, request in asked:
            out[request.tag] = subject
            yield request

    async for outcome in model.complete(drawn()):
        early[outcome.tag] = outcome
        bar.advance()
        while out and (first := next(iter(out))) in early:
            yield out.pop(first), early.pop(first)


def record_answer(ask: Ask, model: str, outcome: CallOutcome, phrases: Sequence[str]) -> Response:
    """The row of one call: its answer, or why there is none."""
    probabilities = _option_logprobs(ask, outcome)
    completion = outcome if isinstance(outcome, Completion) else None
    failure = outcome if isinstance(outcome, Failure) else None
    text = completion.text if completion else ""
    perplexity = log_perplexity(completion) if completion else None
    return Response(
        id=content_id("r", model, ask.question.id, ask.variant, ask.phase, ask.sample, ask.condition),
        question_id=ask.question.id,
        variant=ask.variant,
        value=ask.question.variants[ask.variant].value,
        model=model,
        revision=completion.revision if completion else None,
        phase=ask.phase,
        sample=ask.sample,
        condition=ask.condition,
        text=text,
        refused=bool(completion and (completion.refusal or is_refusal(text, phrases))),
        finish_reason=completion.finish_reason if completion else None,
        scoring=_scoring(ask, probabilities, perplexity is not None),
        option_order=ask.option_order,
        option=_option(ask, text, probabilities) if completion else None,
        log_perplexity=perplexity,
        option_logprobs=probabilities,
        tokens_in=completion.tokens_in if completion else 0,
        tokens_out=completion.tokens_out if completion else 0,
        cost_usd=completion.cost_usd if completion else 0.0,
        failure=failure.kind if failure else None,
        failure_message=failure.message if failure else None,
    )


def _option_logprobs(ask: Ask, outcome: CallOutcome) -> tuple[float, ...]:
    if not ask.labels or not isinstance(outcome, Completion):
        return ()
    return option_logprobs(outcome, ask.labels) or ()


def _scoring(ask: Ask, probabilities: tuple[float, ...], text_scored: bool) -> Scoring:
    if text_scored:
        return "token_probability"
    if not ask.question.options:
        return "free_text"
    return "token_probability" if probabilities else "sampled"


def _option(ask: Ask, text: str, probabilities: tuple[float, ...]) -> int | None:
    """The likeliest option where probabilities are known, else the one that the answer names."""
    if probabilities:
        return max(range(len(probabilities)), key=lambda i: probabilities[i])
    return read_answer(ask, text)


STAGE = Stage(
    "respond",
    1,
    run=respond,
    reads=("families", "holdout", "models"),
    vocabulary=("prompts", "lexicons"),
)
