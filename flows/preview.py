"""Show the prompts of a few questions as a build will send them, and optionally the answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.prepare import prepare
from schemas.answers import text_answer
from schemas.errors import InputError
from schemas.options import PreviewOptions
from schemas.question import Question
from schemas.tables import derived_seed
from tasks.estimate import first_phase
from tasks.expand import expand_families, read_own_table
from tasks.families import Ask, conditions_of, plan_asks, read_asking_prompts, request_for
from tasks.files.vocabulary import read_question_attributes
from tasks.judges.comparison import make_verdict_request, plan_comparisons, read_comparison_judge
from tasks.judges.scored_pairs import read_pair_judge, typical_requests
from tasks.judges.verdicts import AnswerGroup
from tasks.models import ModelSettings, open_model, run_async
from tasks.models.preflight import preflight
from tasks.models.protocol import Message, Request
from tasks.respond import record_answer
from tasks.run.store import RunContext, run_lock

PLACEHOLDER = "(an answer of the model)"


@dataclass(frozen=True)
class PreviewRow:
    """One prompt of the preview."""

    ask: Ask
    request: Request


def run_preview(options: PreviewOptions) -> dict[str, Any]:
    """Return the fields of `preview --json`.

    Raises:
        InputError: If the recipe is not usable, or does not have the family.
        BudgetError: With `send`, if the budget is used up, or a price is unknown.
    """
    prepared = prepare(options.recipe, budget_usd=options.budget_usd, reach=False)
    context = prepared.context
    rows = choose_rows(context, options)
    if options.send:
        shown = send_rows(context, rows)
    else:
        shown = [describe(row) | {"model": None, "answer": None, "reading": None} for row in rows]
    return {
        "rows": shown,
        "judges": list(judge_prompts(context, rows)),
        "before_build": [] if options.send else list(prepared.estimate.before_build),
    }


def choose_rows(context: RunContext, options: PreviewOptions) -> list[PreviewRow]:
    """Return the first `rows` prompts of every family and condition.

    Each row is of another question, as long as there are some, and shows another value.
    """
    recipe, data_dir = context.recipe, Path(context.data_dir)
    if options.family is not None and options.family not in recipe.families:
        raise InputError(
            f"the recipe has no family {options.family!r}", hint=f"it has: {', '.join(recipe.families)}"
        )
    families = [options.family] if options.family else list(recipe.families)
    by_family = expand_families(recipe, data_dir, families, read_own_table(context))
    prompts = read_asking_prompts(data_dir, families)
    rows = []
    for family in families:
        questions = _ranked(by_family[family], recipe.seed)
        for condition in conditions_of(recipe, data_dir, family):
            phase = first_phase(recipe, family)
            asks = [[a for a in plan_asks(recipe, q, phase, (condition,)) if not a.sample] for q in questions]
            rows += [
                PreviewRow(ask, request_for(ask, recipe, prompts)) for ask in _spread(asks, options.rows)
            ]
    return rows


def _ranked(questions: Iterable[Question], seed: int) -> list[Question]:
    """Return the questions without controls, in an order drawn by seed."""
    plain = [q for q in questions if q.control == "none"]
    return sorted(plain, key=lambda q: derived_seed(seed, "preview", q.id))


def _spread(by_question: Sequence[Sequence[Ask]], count: int) -> Iterator[Ask]:
    """Yield asks of one question after the other, each about the next value."""
    given = 0
    for turn in range(max((len(asks) for asks in by_question), default=0)):
        for number, asks in enumerate(by_question):
            if given == count:
                return
            if turn < len(asks):
                yield asks[(number + turn) % len(asks)]
                given += 1


def describe(row: PreviewRow) -> dict[str, Any]:
    """Return the request of a row."""
    question = row.ask.question
    return {
        "family": question.family,
        "condition": row.ask.condition,
        "attribute": question.attribute,
        "value": question.variants[row.ask.variant].value,
        "language": question.language,
        "question": question.id,
        "prompt": show_messages(row.request.messages),
        "messages": [{"role": m.role, "content": m.content} for m in row.request.messages],
        "max_tokens": row.request.decoding.max_tokens,
        "temperature": row.request.decoding.temperature,
    }


def show_messages(messages: Sequence[Message]) -> str:
    """Return the content of the only message, or all messages after their roles."""
    if len(messages) == 1:
        return messages[0].content
    return "\n\n".join(f"[{m.role}]\n{m.content}" for m in messages)


def send_rows(context: RunContext, rows: Sequence[PreviewRow]) -> list[dict[str, Any]]:
    """Ask every target the rows. The answers stay in the cache, so that a build does not ask again."""
    settings = ModelSettings.of(context)
    targets = context.recipe.models.targets
    preflight(targets, settings)
    with run_lock(Path(context.run_dir)):
        return [shown for target in targets for shown in run_async(_send(context, target, rows))]


async def _send(context: RunContext, target: str, rows: Sequence[PreviewRow]) -> list[dict[str, Any]]:
    by_tag = {row.request.tag: row for row in rows}
    found: dict[str, dict[str, Any]] = {}
    async with open_model(target, ModelSettings.of(context)) as model:
        async for outcome in model.complete([row.request for row in rows]):
            ask = by_tag[outcome.tag].ask
            answer = record_answer(ask, target, outcome, Path(context.data_dir))
            reading = answer.reading if answer.failure is None else f"failed: {answer.failure}"
            if answer.option is not None:
                reading = ask.question.options[answer.option].text
            found[outcome.tag] = {
                "model": target,
                "answer": answer.text if answer.failure is None else answer.failure_message,
                "reading": reading,
                "cost_usd": answer.cost_usd,
            }
    return [describe(row) | found[row.request.tag] for row in rows]


def judge_prompts(context: RunContext, rows: Sequence[PreviewRow]) -> Iterator[dict[str, Any]]:
    """Yield the prompt of every judge that is a model, for the first open question, with empty answers."""
    question = next((row.ask.question for row in rows if row.ask.question.family == "open"), None)
    judges = [name for name in context.recipe.models.judges if ":" in name]
    if question is None:
        return
    attributes = read_question_attributes(Path(context.data_dir), [question])
    answers = tuple((text_answer(question, v.index, 0, PLACEHOLDER, model=""),) for v in question.variants)
    group = AnswerGroup(question, "", first_phase(context.recipe, "open"), answers)
    for name in judges:
        if context.recipe.judging.comparison == "pairwise_scored":
            for request in typical_requests(read_pair_judge(context, name, attributes), group, once=True):
                yield {"judge": name, "question": question.id, "prompt": show_messages(request.messages)}
            continue
        judge = read_comparison_judge(context, name, attributes)
        for comparison in plan_comparisons(group, judge.judging.comparison, judge.seed)[:1]:
            request = make_verdict_request(judge, comparison)
            yield {"judge": name, "question": question.id, "prompt": show_messages(request.messages)}
