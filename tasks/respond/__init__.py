"""Ask every target model every variant. Each answer or failure becomes one row."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field
from math import exp, fsum
from pathlib import Path
from typing import TypeVar

from schemas.answers import DONT_KNOW, RESPONSES, Phase, Response, Scoring
from schemas.errors import ModelError
from schemas.labels import StageCounts
from schemas.question import QUESTIONS, SELECTED, Question
from schemas.recipe import Recipe
from schemas.release import StageCost
from schemas.tables import content_id
from tasks.families import Ask, conditions_of, plan_asks, read_ask, read_asking_prompts, request_for
from tasks.families.coverage import answer_status
from tasks.models import ModelSettings, open_model, run_async
from tasks.models.circuit_breaker import PROBE_CALLS
from tasks.models.protocol import Completion, Failure, FailureCount, Model, Request
from tasks.models.protocol import Outcome as CallOutcome
from tasks.models.replay import log_perplexity, option_logprobs
from tasks.run.progress import ProgressBar, count_answer, track
from tasks.run.store import Outcome, RowSpool, RunContext, Stage, TableRef, scan_table
from tasks.text.readings import Reading

T = TypeVar("T")

PROBE_QUESTIONS = 3
"""Number of questions whose answers show that a family cannot be read."""
IMPLAUSIBLE = 0.02
"""Probability of the given option below which token probabilities do not belong to the answer."""


def respond(context: RunContext, questions: TableRef, phase: Phase) -> Outcome:
    """Ask all models of the phase all questions: variants × samples × models calls.

    Questions and answers are streamed, so memory does not grow with their number.

    Raises:
        ModelError: If more calls fail than `validate.max_failure_rate` allows.
    """
    rows = RowSpool(RESPONSES, Path(context.run_dir))
    totals = AnswerCounts(FailureCount(context.recipe.validation.max_failure_rate))
    for model in models_in_phase(context.recipe, phase):
        run_async(ask_model(context, model, questions, phase, rows, totals))
    totals.failures.refuse()
    failed = totals.failures.failed
    counts = StageCounts(
        stage="respond", unit="requests", rows=len(rows), kept=len(rows) - failed, dropped=0, failed=failed
    )
    return Outcome(tables={RESPONSES: rows}, counts=(counts,), costs=totals.costs("respond"))


def is_asked(question: Question, phase: Phase) -> bool:
    """Return whether a question is asked in the phase.

    The hold-out repeats the results of the search only: accepted `open` questions and their controls.
    Rewordings of open questions, and questions that are carried over from the last release, are asked there
    only.
    """
    if phase == "search":
        return question.family != "open" or (question.variant_of is None and not question.anchor)
    return question.family == "open" and question.label in {*SELECTED, "control"}


@dataclass
class AnswerCounts:
    """Running totals of failures and cost."""

    failures: FailureCount
    spent: dict[str, StageCost] = field(default_factory=dict)
    """Calls, tokens and cost by model."""

    def add(self, row: Response, outcome: CallOutcome) -> None:
        """Count one call."""
        self.failures.add(row.model, outcome)
        before = self.spent.get(row.model) or StageCost.zero("", row.model)
        self.spent[row.model] = before.plus(1, row.tokens_in, row.tokens_out, row.cost_usd)

    def costs(self, stage: str) -> tuple[StageCost, ...]:
        """Return the costs of all models, sorted by model name."""
        return tuple(
            cost.rounded().model_copy(update={"stage": stage}) for _, cost in sorted(self.spent.items())
        )


@dataclass
class FirstAnswers:
    """Stops a model if the first answers to a family cannot be read, before the rest is paid.

    One answer that was read or refused proves that the family can be read. Many answers to one odd question
    prove nothing, so answers to at least `PROBE_QUESTIONS` questions are needed. Answers that are all cut off
    at the length limit stop the model whatever the question.
    """

    model: str
    active: bool = True
    """Whether unread answers stop the build. If not, the report counts them."""
    cut_off: int | None = 0
    """Number of answers that were cut off and unreadable, or None after any other answer."""
    unread: dict[str, Counter[str]] = field(default_factory=dict)
    """Number of unread answers by family and question, of the families without any answer that was read."""
    readable: set[str] = field(default_factory=set)

    def add(self, question: Question, row: Response) -> None:
        """Count one answer.

        Raises:
            ModelError: If it is the last of the first answers, and all of them are cut off or cannot be read.
        """
        if not self.active:
            return
        status = answer_status(question, row)
        self._count_cut_off(row, status)
        if status == "failed":
            return
        if status in ("read", "refused"):
            self.readable.add(question.family)
            self.unread.pop(question.family, None)
        elif question.family not in self.readable:
            unread = self.unread.setdefault(question.family, Counter())
            unread[question.id] += 1
            self._stop_if_unread(question.family, unread, row)

    def _count_cut_off(self, row: Response, status: str) -> None:
        if self.cut_off is None:
            return
        self.cut_off = self.cut_off + 1 if row.finish_reason == "length" and status == "unreadable" else None
        if self.cut_off == PROBE_CALLS:
            raise ModelError(
                f"the first {PROBE_CALLS} answers were all cut off at the length limit before they named an "
                "option",
                place=self.model,
                hint="raise the model's `max_tokens`, or use a model that answers without reasoning aloud; "
                "then run the same command again: received answers are kept",
            )

    def _stop_if_unread(self, family: str, unread: Counter[str], last: Response) -> None:
        if unread.total() < PROBE_CALLS or len(unread) < PROBE_QUESTIONS:
            return
        raise ModelError(
            f"the first {unread.total()} answers to questions of family `{family}` could not be read; the "
            f"last one begins {last.text[:80]!r}",
            place=self.model,
            hint="look at prompts and answers with `counterfoil preview RECIPE --send`; set "
            "`validate.below_coverage: report` to continue and report the family as not measured; received "
            "answers are kept",
        )


def models_in_phase(recipe: Recipe, phase: Phase) -> tuple[str, ...]:
    """Return the models that answer in a phase. The hold-out may have targets of its own."""
    if phase == "holdout" and recipe.models.holdout_targets:
        return recipe.models.holdout_targets
    return recipe.models.targets


async def ask_model(
    context: RunContext,
    name: str,
    questions: TableRef,
    phase: Phase,
    rows: RowSpool[Response],
    totals: AnswerCounts,
) -> None:
    """Append all answers of one model to `rows`, ordered by question, variant and sample."""
    recipe, data_dir = context.recipe, Path(context.data_dir)
    prompts = read_asking_prompts(data_dir, tuple(recipe.families))
    calls = sum(1 for _ in plan_calls(context, questions, phase))
    if not calls:
        return
    requests = ((ask, request_for(ask, recipe, prompts)) for ask in plan_calls(context, questions, phase))
    first = FirstAnswers(name, recipe.validation.below_coverage == "stop")
    async with open_model(name, ModelSettings.of(context)) as model:
        with track(f"{name} answers ({phase})", calls) as bar:
            async for ask, outcome in complete_in_order(model, requests, bar):
                row = record_answer(ask, name, outcome, data_dir)
                rows.append(row)
                totals.add(row, outcome)
                first.add(ask.question, row)
                count_answer(answer_status(ask.question, row) in ("read", "refused"))


def plan_calls(context: RunContext, questions: TableRef, phase: Phase) -> Iterator[Ask]:
    """Yield all calls to one model, in the order of the questions table."""
    recipe, data_dir = context.recipe, Path(context.data_dir)
    conditions = {family: conditions_of(recipe, data_dir, family) for family in recipe.families}
    for question in scan_table(questions, QUESTIONS):
        if is_asked(question, phase):
            yield from plan_asks(recipe, question, phase, conditions[question.family])


async def complete_in_order(
    model: Model, requests: Iterable[tuple[T, Request]], bar: ProgressBar
) -> AsyncIterator[tuple[T, CallOutcome]]:
    """Yield outcomes in the order of the requests.

    Outcomes arrive in any order. An early one is buffered until all requests before it have finished.
    """
    pending: OrderedDict[str, T] = OrderedDict()
    early: dict[str, CallOutcome] = {}

    def sent() -> Iterator[Request]:
        for subject, request in requests:
            pending[request.tag] = subject
            yield request

    async for outcome in model.complete(sent()):
        early[outcome.tag] = outcome
        bar.advance()
        while pending and (first := next(iter(pending))) in early:
            yield pending.pop(first), early.pop(first)


def record_answer(ask: Ask, model: str, outcome: CallOutcome, data_dir: Path) -> Response:
    """Return the row of one call, with its answer and how it was read, or its failure."""
    completion = outcome if isinstance(outcome, Completion) else None
    failure = outcome if isinstance(outcome, Failure) else None
    reading = _read(ask, completion, data_dir) if completion else None
    probabilities = _option_logprobs(ask, completion, reading)
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
        text=completion.text if completion else "",
        refused=reading is not None and reading.status == "refused",
        finish_reason=completion.finish_reason if completion else None,
        scoring=_scoring(ask, probabilities, perplexity is not None),
        option_order=ask.option_order,
        option=_option(ask, reading, probabilities),
        log_perplexity=perplexity,
        option_logprobs=probabilities,
        tokens_in=completion.tokens_in if completion else 0,
        tokens_out=completion.tokens_out if completion else 0,
        cost_usd=completion.cost_usd if completion else 0.0,
        failure=failure.kind if failure else None,
        failure_message=failure.message if failure else None,
        reading=_status(reading, probabilities, perplexity is not None),
        reading_rule=_rule(reading, probabilities),
    )


def _read(ask: Ask, completion: Completion, data_dir: Path) -> Reading:
    """Read the text. The server's own mark of a refusal decides if no option was read."""
    reading = read_ask(ask, completion.text, data_dir)
    if completion.refusal and reading.value is None:
        return Reading(None, "refused", reading.evidence, "server")
    return reading


def _status(reading: Reading | None, probabilities: tuple[float, ...], text_scored: bool) -> str:
    if reading is None:
        return ""
    if text_scored or (probabilities and reading.status != "refused"):
        return "read"
    return reading.status


def _rule(reading: Reading | None, probabilities: tuple[float, ...]) -> str:
    if reading is None:
        return ""
    return "probability" if probabilities and reading.status in ("unreadable", "empty") else reading.rule


def _option_logprobs(ask: Ask, completion: Completion | None, reading: Reading | None) -> tuple[float, ...]:
    """Return ln p of each option, if the probabilities describe the answer that was given.

    An answer is a sample, so its option need not be the most probable one. But an option with a probability
    below `IMPLAUSIBLE` shows that the probabilities belong to other words.
    """
    if not ask.labels or completion is None or ask.condition == DONT_KNOW:
        return ()
    probabilities = option_logprobs(completion, ask.labels) or ()
    if probabilities and reading is not None and reading.value is not None:
        share = exp(probabilities[int(reading.value)]) / fsum(exp(p) for p in probabilities)
        return probabilities if share >= IMPLAUSIBLE else ()
    return probabilities


def _scoring(ask: Ask, probabilities: tuple[float, ...], text_scored: bool) -> Scoring:
    if text_scored:
        return "token_probability"
    if not ask.question.options:
        return "free_text"
    return "token_probability" if probabilities else "sampled"


def _option(ask: Ask, reading: Reading | None, probabilities: tuple[float, ...]) -> int | None:
    """Return the option in the text, or else the most probable one."""
    if ask.form == "text" or reading is None:
        return None
    if reading.value is not None:
        return int(reading.value)
    if not probabilities or reading.status == "refused":
        return None
    return max(range(len(probabilities)), key=lambda i: probabilities[i])


STAGE = Stage(
    "respond",
    3,
    run=respond,
    reads=("families", "holdout", "models", "prompting"),
    vocabulary=("prompts", "readers"),
)
