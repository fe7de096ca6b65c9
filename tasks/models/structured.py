"""Typed answers: JSON schema out, validated objects in. What cannot be read is an abstention, not a default.

An answer that does not validate is asked for once more with what was wrong with it (`repairs`); a refusal or
a failed call is not asked again. Every try counts towards tokens and cost.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import BaseModel, ValidationError

from tasks.models.json_text import one_json_object
from tasks.models.protocol import Completion, Failure, Message, Model, Outcome, Request
from tasks.models.strict_schema import strict_schema
from tasks.text.prompts import Prompt, read_prompt

M = TypeVar("M", bound=BaseModel)
PROMPTS = Path(__file__).resolve().parents[2] / "data"
LONGEST_QUOTE = 4000
"""Characters of an unusable answer that are shown to the model again."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What one question cost so far, over all its tries."""

    tries: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: float = 0.0
    cached: bool = True
    """Every try came from the cache."""

    def plus(self, completion: Completion) -> Spent:
        return Spent(
            self.tries + 1,
            self.tokens_in + completion.tokens_in,
            self.tokens_out + completion.tokens_out,
            self.cost_usd + completion.cost_usd,
            self.cached and completion.cached,
        )


@dataclass(frozen=True, slots=True)
class Parsed(Generic[M]):
    """A valid answer."""

    tag: str
    value: M
    revision: str | None
    spent: Spent


@dataclass(frozen=True, slots=True)
class Abstention:
    """No valid answer. `reason` is `refused`, `unparsable`, `truncated` (unparsable, because the length ran
    out) or `failed:<kind>`; `detail` says more."""

    tag: str
    reason: str
    detail: str
    revision: str | None
    spent: Spent


async def ask_structured(
    model: Model, requests: Iterable[Request], answer_type: type[M], *, repairs: int = 1
) -> AsyncIterator[Parsed[M] | Abstention]:
    """Ask every request for an `answer_type`; exactly one result a request, in the order of completion.

    Tags must be unique. Requests are drawn lazily; those to be asked again wait until the others are done.
    After the last result `BudgetError` is raised where the money did not last, and `ModelError` where too
    many of the model's calls have failed so far (`Model.failures`): what another run would answer is no
    abstention. What the server will not take (400 and the like) is.
    """
    schema = strict_schema(answer_type)
    open_requests: dict[str, tuple[Request, Spent]] = {}
    again: list[tuple[Request, Spent]] = []

    def drawn(pairs: Iterable[tuple[Request, Spent]]) -> Iterator[Request]:
        for request, spent in pairs:
            if request.tag in open_requests:
                raise ValueError(f"two requests have the tag {request.tag!r}")
            open_requests[request.tag] = (request, spent)
            yield request

    first = ((replace(request, json_schema=schema), Spent()) for request in requests)
    for round_ in range(repairs + 1):
        asking: Iterable[tuple[Request, Spent]] = first if round_ == 0 else again
        again = []
        async for outcome in model.complete(drawn(asking)):
            request, spent = open_requests.pop(outcome.tag)
            if not (isinstance(outcome, Failure) and outcome.kind == "bad_request"):
                model.failures.add(model.name, outcome)
            result = _read(outcome, spent, answer_type)
            if isinstance(result, Abstention) and round_ < repairs and _may_be_mended(outcome, result):
                assert isinstance(outcome, Completion)
                again.append((_asked_again(request, outcome.text, result.detail), result.spent))
            else:
                yield result
    model.failures.refuse()


def _read(outcome: Outcome, spent: Spent, answer_type: type[M]) -> Parsed[M] | Abstention:
    if isinstance(outcome, Failure):
        return Abstention(outcome.tag, f"failed:{outcome.kind}", outcome.message, None, spent)
    spent = spent.plus(outcome)
    if outcome.refusal:
        return Abstention(outcome.tag, "refused", outcome.text[:LONGEST_QUOTE], outcome.revision, spent)
    try:
        value = parse_answer(outcome.text, answer_type, cut_off=outcome.finish_reason == "length")
    except ValueError as error:
        reason = "truncated" if outcome.finish_reason == "length" else "unparsable"
        return Abstention(outcome.tag, reason, str(error), outcome.revision, spent)
    return Parsed(outcome.tag, value, outcome.revision, spent)


def _may_be_mended(outcome: Outcome, result: Abstention) -> bool:
    """Whether to ask again: not after a refusal or a failure, and not where the length ran out before the
    first word of an answer (a model that thinks would only think as long again)."""
    said_something = isinstance(outcome, Completion) and bool(outcome.text.strip())
    return result.reason == "unparsable" or (result.reason == "truncated" and said_something)


def parse_answer(text: str, answer_type: type[M], *, cut_off: bool = False) -> M:
    """A model's text as an `answer_type`, strictly: no number from a string, no truth value as a number.
    Raises `ValueError` with what is wrong."""
    found = one_json_object(text, cut_off=cut_off)
    try:
        return answer_type.model_validate_json(_dumped(found), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the answer"
        raise ValueError(f"{place}: {first['msg']}") from None


def _dumped(value: object) -> bytes:
    import orjson

    return orjson.dumps(value)


def _asked_again(request: Request, answer: str, problem: str) -> Request:
    """The same question with the unusable answer and what was wrong with it. Other messages, so another
    cache key; the same content every time, so the same key every time."""
    correction = Message("user", _repair_prompt().fill(problem=problem)[-1].content)
    shown = Message("assistant", answer[:LONGEST_QUOTE])
    return replace(request, messages=(*request.messages, shown, correction))


@lru_cache(maxsize=1)
def _repair_prompt() -> Prompt:
    return read_prompt(PROMPTS, "json_repair")
