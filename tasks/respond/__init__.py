"""Ask every target model every variant. Each answer or failure becomes one row."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from itertools import takewhile
from math import exp, fsum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import pyarrow.parquet as pq

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
from tasks.run.parts import PartRunner
from tasks.run.progress import ProgressBar, count_answers, track
from tasks.run.store import Outcome, RowSpool, RunContext, Stage, TableRef, scan_table
from tasks.text.reader_rules import Reading

T = TypeVar("T")

PROBE_QUESTIONS = 3
"""Number of questions whose answers show that a family cannot be read."""
IMPLAUSIBLE = 0.02
"""Probability of the given option below which token probabilities do not belong to the answer."""


def respond(
    context: RunContext, questions: TableRef, phase: Phase, *, run_parts: PartRunner | None = None
) -> Outcome:
    """Ask all models of the phase all questions: variants × samples × models calls.

    Questions and answers are streamed, so memory does not grow with their number. The models are asked at the
    same time.

    Args:
        context: The run.
        questions: The questions.
        phase: Phase of the build.
        run_parts: Asks parts of the questions on workers. Default: all questions in this process.

    Raises:
        ModelError: If more calls fail than `validate.max_failure_rate` allows.
    """
    rows = RowSpool(RESPONSES, Path(context.run_dir))
    totals = AnswerCounts(FailureCount(context.recipe.validation.max_failure_rate))
    models = models_in_phase(context.recipe, phase)
    with TemporaryDirectory(prefix=".respond-", dir=context.run_dir) as folder:
        whole = AnswerPart(context, questions, phase, models, 0, questions.rows, Path(folder).absolute())
        if run_parts is None:
            totals.merge(answer_part(whole))
        else:
            answer_on_workers(whole, run_parts, totals)
        # Files are named by the place of their model and their first question.
        for path in sorted(Path(folder).iterdir()):
            rows.append_file(path)
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


QUESTIONS_PER_PART = (16, 1_024)
"""Smallest and largest number of questions that one task asks a model."""
MOST_PARTS = 32
"""Tasks per model, unless the largest number of questions requires more."""


@dataclass(frozen=True)
class AnswerPart:
    """Questions from row `start` to row `stop` of the table, for some models."""

    context: RunContext
    questions: TableRef
    phase: Phase
    models: tuple[str, ...]
    start: int
    stop: int
    folder: Path
    """Folder for one file of responses per model."""
    known_families: frozenset[str] = frozenset()
    """Families of earlier parts. Their first answers are checked there."""
    on_worker: bool = False
    """Whether another function shows the progress."""

    def answers_of(self, model: str) -> Path:
        """Return the file of the responses of a model."""
        place = models_in_phase(self.context.recipe, self.phase).index(model)
        return self.folder / f"{place:03}-{self.start:09}.parquet"

    def split(self) -> Iterator[AnswerPart]:
        """Yield parts for one model each. All models are asked the same questions before the next ones."""
        least, most = QUESTIONS_PER_PART
        size = max(least, min(most, -(-self.stop // MOST_PARTS)))
        families = pq.read_table(self.questions.path, columns=["family"])["family"].to_pylist()
        known: set[str] = set()
        for start in range(self.start, self.stop, size):
            stop = min(start + size, self.stop)
            for model in self.models:
                known_here = frozenset(known)
                yield replace(
                    self,
                    models=(model,),
                    start=start,
                    stop=stop,
                    known_families=known_here,
                    on_worker=True,
                )
            known.update(families[start:stop])


def answer_part(part: AnswerPart) -> AnswerCounts:
    """Ask the models of a part at the same time, and write a file of responses per model.

    Workers import this function.
    """
    totals = AnswerCounts(FailureCount(1.0))
    run_async(_ask_models(part, totals))
    return totals


def answer_on_workers(whole: AnswerPart, run_parts: PartRunner, totals: AnswerCounts) -> None:
    """Answer all parts and add up their totals."""
    parts = list(whole.split())
    title = f"{bar_title(whole.models, whole.phase)}, questions"
    with track(title, whole.stop * len(whole.models)) as bar:
        for part, counted in zip(parts, run_parts(answer_part, parts), strict=True):
            totals.merge(counted)
            count_answers(counted.usable, counted.failures.calls)
            bar.advance(part.stop - part.start)


def bar_title(models: Sequence[str], phase: Phase) -> str:
    """Return the title of the progress bar."""
    return (
        f"{models[0]} answers ({phase})" if len(models) == 1 else f"answers of {len(models)} models ({phase})"
    )


async def _ask_models(part: AnswerPart, totals: AnswerCounts) -> None:
    """Ask all models at the same time. If one stops, the others finish the calls in flight."""
    calls = sum(1 for _ in part_calls(part))
    if not calls:
        return
    stopped = asyncio.Event()
    title = bar_title(part.models, part.phase)
    with track(title, calls * len(part.models)) if not part.on_worker else nullcontext() as bar:

        async def ask(model: str) -> None:
            try:
                await ask_model(part, model, totals, stopped, bar)
            except BaseException:
                stopped.set()
                raise

        results = await asyncio.gather(*(ask(model) for model in part.models), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result


@dataclass
class AnswerCounts:
    """Running totals of failures and cost."""

    failures: FailureCount
    spent: dict[str, StageCost] = field(default_factory=dict)
    """Calls, tokens and cost by model."""
    usable: int = 0
    """Answers that were read or refused."""

    def merge(self, other: AnswerCounts) -> None:
        """Add the totals of a part."""
        self.failures.merge(other.failures)
        self.usable += other.usable
        for model, cost in other.spent.items():
            before = self.spent.get(model) or StageCost.zero("", model)
            self.spent[model] = before.plus(cost.calls, cost.tokens_in, cost.tokens_out, cost.cost_usd)

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
    """Number of answers that were cut off and unreadable. None after any other answer, and in later parts."""
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
    part: AnswerPart, name: str, totals: AnswerCounts, stopped: asyncio.Event, bar: ProgressBar | None
) -> None:
    """Write all answers of one model to its file, ordered by question, variant and sample.

    Args:
        part: The questions.
        name: The model.
        totals: Totals of the part.
        stopped: No further call is made after this event.
        bar: Shows the answers.
    """
    context = part.context
    recipe, data_dir = context.recipe, Path(context.data_dir)
    prompts = read_asking_prompts(data_dir, tuple(recipe.families))
    requests = (
        (ask, request_for(ask, recipe, prompts))
        for ask in takewhile(lambda _: not stopped.is_set(), part_calls(part))
    )
    first = FirstAnswers(name, recipe.validation.below_coverage == "stop", readable=set(part.known_families))
    if part.start:
        first.cut_off = None
    rows = RowSpool(RESPONSES, part.folder)
    async with open_model(name, ModelSettings.of(context)) as model:
        async for ask, outcome in complete_in_order(model, requests, bar):
            row = record_answer(ask, name, outcome, data_dir)
            rows.append(row)
            totals.add(row, outcome)
            first.add(ask.question, row)
            usable = answer_status(ask.question, row) in ("read", "refused")
            totals.usable += usable
            if bar is not None:
                count_answers(usable)
    rows.save(part.answers_of(name))


def part_calls(part: AnswerPart) -> Iterator[Ask]:
    """Yield the calls of a part to one model, in the order of the questions table."""
    return plan_calls(part.context, part.questions, part.phase, part.start, part.stop)


def plan_calls(
    context: RunContext, questions: TableRef, phase: Phase, start: int = 0, stop: int | None = None
) -> Iterator[Ask]:
    """Yield all calls to one model for the questions from `start` to `stop`, in their order."""
    recipe, data_dir = context.recipe, Path(context.data_dir)
    conditions = {family: conditions_of(recipe, data_dir, family) for family in recipe.families}
    for question in scan_table(questions, QUESTIONS, start, stop):
        if is_asked(question, phase):
            yield from plan_asks(recipe, question, phase, conditions[question.family])


async def complete_in_order(
    model: Model, requests: Iterable[tuple[T, Request]], bar: ProgressBar | None = None
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
        if bar is not None:
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
