"""Respond: every variant is put to every target, every answer or failure becomes a row."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from schemas.decision import StageCounts
from schemas.errors import BudgetError, ModelError
from schemas.ids import content_id
from schemas.manifest import StageCost
from schemas.question import QUESTIONS, Question
from schemas.recipe import Recipe
from schemas.response import RESPONSES, Phase, Response, Scoring
from tasks.families.asking import (
    conditions_of,
    plan_asks,
    read_answer,
    read_asking_prompts,
    request_for,
)
from tasks.families.method import Ask
from tasks.judging.refusal import is_refusal, read_refusal_phrases
from tasks.models.connect import ModelSettings, open_model, run_async
from tasks.models.protocol import Completion, Failure
from tasks.models.protocol import Outcome as CallOutcome
from tasks.models.scoring import log_perplexity, option_logprobs
from tasks.progress import track
from tasks.store import Outcome, RunContext, Stage, TableRef, read_table


def respond(context: RunContext, questions: TableRef, phase: Phase) -> Outcome:
    """Ask all questions of all targets of the phase: variants × samples × targets calls."""
    asked = [q for q in read_table(questions, QUESTIONS) if is_asked(q, phase)]
    rows = [
        row
        for model in models_of(context.recipe, phase)
        for row in run_async(ask_model(context, model, asked, phase))
    ]
    refuse_too_many_failures(rows, context.recipe.validation.max_failure_rate)
    failed = sum(r.failure is not None for r in rows)
    counts = StageCounts(
        stage="respond", unit="requests", rows=len(rows), kept=len(rows) - failed, dropped=0, failed=failed
    )
    return Outcome(tables={RESPONSES: rows}, counts=(counts,), costs=cost_of("respond", rows))


def is_asked(question: Question, phase: Phase) -> bool:
    """On hold-out, what was searched for is asked afresh: accepted advice questions, and their controls."""
    return phase == "search" or (question.family == "open" and question.label in ("accepted", "control"))


def refuse_too_many_failures(rows: Sequence[Response], tolerated: float) -> None:
    """Raise `ModelError` when more calls failed than the recipe tolerates: nothing is written then, and the
    answers that did come are in the cache."""
    failures = [r for r in rows if r.failure is not None]
    if len(failures) <= tolerated * len(rows):
        return
    if any(r.failure == "budget" for r in failures):
        raise BudgetError(
            f"the budget ran out with {len(failures)} calls of {len(rows)} left to make",
            place=failures[0].failure_message,
            hint="raise `budget.usd` (or --budget) and build again: answers that came are kept",
        )
    kinds = ", ".join(f"{n} × {kind}" for kind, n in Counter(r.failure for r in failures).most_common())
    first = failures[0]
    raise ModelError(
        f"{len(failures)} of {len(rows)} calls failed ({kinds}); {tolerated:.0%} are tolerated",
        place=f"{first.model}: {first.failure_message}",
        hint="mend the endpoint and run the same command again: answers that came are not paid twice; "
        "or raise validate.max_failure_rate",
    )


def models_of(recipe: Recipe, phase: Phase) -> tuple[str, ...]:
    """Who answers in a phase: the targets of the search, or those that were held back from it."""
    if phase == "holdout" and recipe.models.holdout_targets:
        return recipe.models.holdout_targets
    return recipe.models.targets


async def ask_model(
    context: RunContext, name: str, questions: Sequence[Question], phase: Phase
) -> list[Response]:
    """All answers of one model, in the order of questions, variants and samples."""
    recipe = context.recipe
    data_dir = Path(context.data_dir)
    prompts = read_asking_prompts(data_dir, tuple(recipe.families))
    phrases = read_refusal_phrases(data_dir)
    conditions = {family: conditions_of(recipe, data_dir, family) for family in recipe.families}
    asks = {
        request_for(ask, recipe, prompts).tag: ask
        for q in questions
        for ask in plan_asks(recipe, q, phase, conditions[q.family])
    }
    rows: dict[str, Response] = {}
    if not asks:
        return []
    async with open_model(name, ModelSettings.of(context)) as model:
        with track(f"{name} answers ({phase})", len(asks)) as bar:
            requests = (request_for(ask, recipe, prompts) for ask in asks.values())
            async for outcome in model.complete(requests):
                rows[outcome.tag] = record_answer(asks[outcome.tag], name, outcome, phrases)
                bar.advance()
    return [rows[tag] for tag in asks]


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


def cost_of(stage: str, rows: Iterable[Response]) -> tuple[StageCost, ...]:
    """Calls, tokens and dollars by model."""
    by_model: dict[str, list[Response]] = defaultdict(list)
    for row in rows:
        by_model[row.model].append(row)
    return tuple(
        StageCost(
            stage=stage,
            model=model,
            calls=len(answers),
            tokens_in=sum(r.tokens_in for r in answers),
            tokens_out=sum(r.tokens_out for r in answers),
            cost_usd=round(sum(r.cost_usd for r in answers), 6),
        )
        for model, answers in sorted(by_model.items())
    )


STAGE = Stage(
    "respond",
    1,
    run=respond,
    reads=("families", "holdout", "models"),
    vocabulary=("prompts", "lexicons"),
)
