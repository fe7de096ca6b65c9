"""Typed answers: a pydantic type goes out as a JSON schema, and a validated object comes back.

An answer that cannot be read is an abstention, never a default value.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, Generic, NamedTuple, NoReturn, TypeVar, get_origin

from pydantic import BaseModel, ValidationError

from schemas.release import StageCost, combine_costs
from tasks.files.depth import MAX_JSON_DEPTH
from tasks.models.prompts import Prompt, read_prompt
from tasks.models.protocol import (
    EMPTY_KINDS,
    Completion,
    Failure,
    JsonSchema,
    Message,
    Model,
    Outcome,
    Request,
)
from tasks.text.answer_text import remove_reasoning
from tasks.text.printable import replace_surrogates

M = TypeVar("M", bound=BaseModel)

LOOP = "the answer repeats"
LOOP_REPEATS, LONGEST_LOOP = 12, 60
"""Repetitions of a part at the end of an answer that make a loop, and its most characters."""
CUT_OFF_FACTOR = 2
"""The length limit of the second try is this multiple of the first one, if the first answer was cut off."""
LONGEST_QUOTE = 4000
"""Characters of an unusable answer that the repair request repeats."""
WIDEST_ENUM = 101
"""Number of integers in a range that is still written as an `enum`."""
NO_CONTEXT = "failed:context_length"
"""Reason of an abstention, if the prompt and the length limit exceed the context of the model."""
DECODER_ERRORS = (ValueError, RecursionError)
_SCHEMA_KEYWORDS = ("type", "description", "enum", "const", "anyOf", "items", "properties", "$ref", "$defs")


@dataclass(frozen=True, slots=True)
class Spent:
    """Tokens and cost of one question over all its tries."""

    tries: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: float = 0.0
    cached: bool = True
    """Every try came from the cache."""

    def plus(self, answer: Completion | Failure) -> Spent:
        """Return the sum with one more answer, with or without content."""
        return Spent(
            self.tries + 1,
            self.tokens_in + answer.tokens_in,
            self.tokens_out + answer.tokens_out,
            self.cost_usd + answer.cost_usd,
            self.cached and isinstance(answer, Completion) and answer.cached,
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
    """A question without a valid answer."""

    tag: str
    reason: str
    """`refused`, `unparsable`, `truncated` (unparsable because the length limit was reached),
    `failed:context_length` (the prompt is longer than the context) or `failed:<kind>`."""
    detail: str
    revision: str | None
    spent: Spent


async def ask_structured(
    model: Model,
    requests: Iterable[Request],
    answer_type: type[M],
    *,
    repairs: int = 1,
    parse: Callable[[str, bool], M] | None = None,
) -> AsyncIterator[Parsed[M] | Abstention]:
    """Ask every request for an `answer_type` and yield one result per request, in the order of completion.

    Args:
        model: An open model.
        requests: Drawn lazily. Their tags must be unique.
        answer_type: Type of the answer.
        repairs: How often an answer that does not validate is asked for again, with the problem. An answer
            that was cut off is asked for again with twice the length limit and shorter texts. Refusals and
            failed calls are not repeated. Repairs are sent after the other requests of the probe, and after
            all others behind it.
        parse: Reads an answer from its text, and gets a flag for truncated text. It raises `ValueError`
            if it cannot. The default is `parse_answer`.

    Raises:
        BudgetError: After the last result, if the budget did not cover every call.
        ModelError: After the probe, if none of its answers can be read, all for the same reason
            (`FailureCount.count_probe`). After the last result, if too many of the model's calls have failed
            so far (`Model.failures`). Answers without content and prompts longer than the context do not
            count, they are abstentions.
    """
    schema = strict_schema(answer_type)
    questions = (_Question(replace(request, json_schema=schema)) for request in requests)
    while left := model.failures.left_to_probe:
        probe = list(islice(questions, left))
        async for result in _ask_in_rounds(model, probe, answer_type, repairs, parse):
            if isinstance(result, Abstention):
                model.failures.count_probe(model.name, result.reason, result.detail)
            else:
                model.failures.count_probe(model.name, None)
            yield result
        if len(probe) < left:
            break
    async for result in _ask_in_rounds(model, questions, answer_type, repairs, parse):
        yield result
    model.failures.refuse()


async def _ask_in_rounds(
    model: Model,
    first: Iterable[_Question],
    answer_type: type[M],
    repairs: int,
    parse: Callable[[str, bool], M] | None,
) -> AsyncIterator[Parsed[M] | Abstention]:
    """Ask all questions, and then, in each round of repairs, those whose answer may become readable."""
    in_progress: dict[str, _Question] = {}
    to_repair: list[_Question] = []

    def register(questions: Iterable[_Question]) -> Iterator[Request]:
        for question in questions:
            request = question.request
            if request.tag in in_progress:
                raise ValueError(f"two requests have the tag {request.tag!r}")
            in_progress[request.tag] = question
            yield request

    for round_ in range(repairs + 1):
        pending: Iterable[_Question] = first if round_ == 0 else to_repair
        to_repair = []
        async for outcome in model.complete(register(pending)):
            question = in_progress.pop(outcome.tag)
            if not isinstance(outcome, Failure) or not _is_abstention(outcome):
                model.failures.add(model.name, outcome)
            result = _read(outcome, question.spent, answer_type, parse)
            if isinstance(result, Abstention) and round_ < repairs and _is_repairable(outcome, result):
                assert isinstance(outcome, Completion)
                to_repair.append(_repair(question.request, outcome.text, result, model.data_dir))
            elif question.cut_off and isinstance(result, Abstention) and result.reason == NO_CONTEXT:
                yield replace(question.cut_off, spent=result.spent)  # the context has no room for more
            else:
                yield result


@dataclass(frozen=True, slots=True)
class _Question:
    """A request with the tokens that it has cost so far."""

    request: Request
    spent: Spent = Spent()
    cut_off: Abstention | None = None
    """Outcome of the first try, if its answer was cut off."""


_CONTEXT = re.compile(
    r"context.{0,20}(length|window|size)|maximum.{0,20}(context|model|sequence).{0,10}length"
    r"|(prompt|input|request).{0,30}too (long|large|many tokens)|exceeds?.{0,40}(tokens|context|length)"
    r"|max_model_len",
    re.IGNORECASE,
)


def _is_abstention(failure: Failure) -> bool:
    return failure.kind in EMPTY_KINDS or exceeds_context(failure)


def exceeds_context(outcome: Failure) -> bool:
    """Return whether a server rejected a prompt because it is longer than the model's context."""
    return outcome.kind == "bad_request" and _CONTEXT.search(outcome.message) is not None


def _read(
    outcome: Outcome, spent: Spent, answer_type: type[M], parse: Callable[[str, bool], M] | None
) -> Parsed[M] | Abstention:
    if isinstance(outcome, Failure):
        if outcome.tokens_out:
            spent = spent.plus(outcome)
        reason = "truncated" if outcome.kind == "truncated_reasoning" else f"failed:{outcome.kind}"
        reason = NO_CONTEXT if exceeds_context(outcome) else reason
        return Abstention(outcome.tag, reason, outcome.message, None, spent)
    spent = spent.plus(outcome)
    if outcome.refusal:
        return Abstention(outcome.tag, "refused", outcome.text[:LONGEST_QUOTE], outcome.revision, spent)
    try:
        cut_off = outcome.finish_reason == "length"
        value = (
            parse(outcome.text, cut_off)
            if parse is not None
            else parse_answer(outcome.text, answer_type, cut_off=cut_off)
        )
    except ValueError as error:
        if outcome.finish_reason != "length":
            return Abstention(outcome.tag, "unparsable", str(error), outcome.revision, spent)
        unit = find_loop(outcome.text)
        detail = str(error) if unit is None else f"{LOOP} {unit!r} without end"
        return Abstention(outcome.tag, "truncated", detail, outcome.revision, spent)
    return Parsed(outcome.tag, value, outcome.revision, spent)


def find_loop(text: str) -> str | None:
    """Return the part that the end of a text repeats at least `LOOP_REPEATS` times, or `None`.

    Small models repeat a few characters until the length limit. A larger limit does not help them.
    """
    for period in range(1, LONGEST_LOOP + 1):
        unit = text[-period:]
        if len(text) >= LOOP_REPEATS * period and text.endswith(unit * LOOP_REPEATS):
            return unit
    return None


def is_loop(result: Abstention) -> bool:
    """Return whether an answer was cut off because the model repeats itself."""
    return result.reason == "truncated" and result.detail.startswith(LOOP)


def _is_repairable(outcome: Outcome, result: Abstention) -> bool:
    """Return whether another try may help. Only an answer can be repaired."""
    return isinstance(outcome, Completion) and result.reason in ("unparsable", "truncated")


def _repair(request: Request, answer: str, result: Abstention, data_dir: Path) -> _Question:
    """Return the request with the unusable answer and its problem appended.

    An answer that was cut off is not quoted, because small models continue it. It is asked for with twice the
    length limit, unless it repeats itself. The messages differ from the first request, so the cache key does
    too. They depend on the answer only, so the same repair has the same key in every run.
    """
    if result.reason == "truncated":
        limit = request.decoding.max_tokens
        words = _prompt(data_dir, "json_cut_off").fill(tokens=f"{limit:,}")[-1].content
        *before, last = request.messages
        changed = replace(
            request,
            messages=(*before, replace(last, content=f"{last.content}\n\n{words}")),
            decoding=replace(
                request.decoding, max_tokens=limit if is_loop(result) else CUT_OFF_FACTOR * limit
            ),
        )
        return _Question(changed, result.spent, result)
    correction = Message("user", _prompt(data_dir, "json_repair").fill(problem=result.detail)[-1].content)
    quoted = Message("assistant", answer[:LONGEST_QUOTE])
    return _Question(replace(request, messages=(*request.messages, quoted, correction)), result.spent)


@lru_cache(maxsize=8)
def _prompt(data_dir: Path, name: str) -> Prompt:
    return read_prompt(data_dir, name)


def parse_answer(text: str, answer_type: type[M], *, cut_off: bool = False) -> M:
    """Parse a model's text as `answer_type`, strictly: no number from a string, no boolean as a number.

    Raises:
        ValueError: If the text is invalid. The message states the problem.
    """
    found = find_json_object(text, cut_off=cut_off)
    if cut_off:
        _require_lists(found, answer_type)
    try:
        return answer_type.model_validate_json(_to_json(found), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the answer"
        raise ValueError(f"{place}: {first['msg']}") from None


def _require_lists(found: dict[str, Any], answer_type: type[BaseModel]) -> None:
    """Raise `ValueError` if a truncated answer ends inside or before a list.

    A list that is not there must not be taken for an empty one.
    """
    for name, field in answer_type.model_fields.items():
        if get_origin(field.annotation) in (list, tuple, set) and (field.alias or name) not in found:
            raise ValueError(f"{name}: the answer ends before this list is complete")


def _to_json(value: object) -> bytes:
    import orjson

    try:
        return orjson.dumps(value)
    except TypeError:  # a number of more than 64 bits
        return json.dumps(value).encode()


# Finding the JSON object


def find_json_object(text: str, *, cut_off: bool = False) -> dict[str, Any]:
    """Return the last complete JSON object in a text. Reasoning, code fences and prose around it are ignored.

    Trailing commas, single quotes and comments, as small models write them, are repaired.

    Args:
        text: A model's answer.
        cut_off: The text ends where the length limit was reached. An object without its end is closed then,
            and a member that may be incomplete (a last number, a list, a key without a value) is left out.

    Raises:
        ValueError: If the text contains no object. The message is written for people and models to read.
    """
    visible = remove_reasoning(text)
    text = text if visible == text.strip() else visible  # spaces at the end mark a complete word
    last: dict[str, Any] | None = None
    start, work = text.find("{"), 0
    while start >= 0:
        try:
            value, end = _decoder().raw_decode(text, start)
        except _AmbiguousError:
            raise
        except DECODER_ERRORS:
            closing = _end_of_object(text, start)
            value, end = _repaired(text, start, closing)
            if value is None and cut_off:
                closed: dict[str, Any] = _storable(_close(text[start:]))
                return closed
            work += _work(text, start, closing)
            if work > MOST_WORK:
                raise ValueError(
                    "expected one JSON object, found none among too many opening brackets"
                ) from None
        if isinstance(value, dict) and (value or not last):
            last = value
        start = text.find("{", end)
    if last is None:
        raise ValueError("expected one JSON object, found none")
    storable: dict[str, Any] = _storable(last)
    return storable


def _storable(value: Any, depth: int = 0) -> Any:
    """Return a value whose texts can be stored: escapes in an object may encode lone surrogates."""
    if depth > MAX_JSON_DEPTH:
        raise ValueError("the object is nested too deeply")
    if isinstance(value, str):
        return replace_surrogates(value)
    if isinstance(value, list):
        return [_storable(item, depth + 1) for item in value]
    if isinstance(value, dict):
        return {replace_surrogates(key): _storable(item, depth + 1) for key, item in value.items()}
    return value


DECODER_SPEED = 50
"""Characters that the decoder passes in the time of one that is looked at here."""
REPAIR_COST = 20
"""Characters that are looked at here in the time in which one is repaired."""
MOST_WORK = 2_000_000
"""Characters that are looked at in search of an object. Brackets without end would take hours."""
LONGEST_SPACE = 100
"""Spaces beside a quote that are looked through at most."""
LONGEST_REPAIR = 20_000
"""Characters of an object that are repaired at most."""


def _repaired(text: str, start: int, end: int | None) -> tuple[Any, int]:
    """Return a malformed object after its repair and the position behind it, or `None`.

    Only an object with a closing bracket is repaired, so that nothing is added to it.
    """
    if end is None:
        return None, start + 1
    import json_repair

    repaired = json_repair.loads(text[start:end], skip_json_loads=True)
    return (repaired, end) if isinstance(repaired, dict) and repaired else (None, start + 1)


def _work(text: str, start: int, closing: int | None) -> int:
    """Return the cost of an object that could not be decoded, in characters that are looked at."""
    has_key = text[start + 1 : start + 20].lstrip().startswith('"')
    decoded = (len(text) - start) // DECODER_SPEED if has_key else 0
    if closing is None:
        return decoded + min(len(text) - start, LONGEST_REPAIR)
    return decoded + REPAIR_COST * (closing - start)


def _end_of_object(text: str, start: int) -> int | None:
    """Return the position behind the bracket that closes an object, or `None` if it is not closed."""
    depth, quote, i = 0, "", start
    while i < min(len(text), start + LONGEST_REPAIR):
        char = text[i]
        if char == "\\":
            i += 1
        elif quote:
            quote = "" if char == quote and _closes(text, i) else quote
        elif char == '"' or (char == "'" and _opens(text, i)):
            quote = char
        elif char in "{[":
            depth += 1
        elif char in "}]":
            depth -= 1
            if not depth:
                return i + 1
        i += 1
    return None


def _opens(text: str, position: int) -> bool:
    """Return whether a single quote begins a string and is no apostrophe."""
    before = text[max(0, position - LONGEST_SPACE) : position].rstrip()[-1:]
    return before in "{[,:"


def _closes(text: str, position: int) -> bool:
    """Return whether a quote ends a string: a separator or bracket follows."""
    return text[position + 1 : position + 1 + LONGEST_SPACE].lstrip()[:1] in ("", ",", ":", "}", "]", "/")


class _AmbiguousError(ValueError):
    """JSON that parsers read in different ways."""


def _decoder() -> json.JSONDecoder:
    return json.JSONDecoder(object_pairs_hook=_unique_keys, parse_constant=_reject_constant)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        name = next(name for name, count in counts.items() if count > 1)
        raise _AmbiguousError(f"the key {name!r} is given twice")
    return found


def _reject_constant(name: str) -> NoReturn:
    raise _AmbiguousError(f"{name} is not a JSON value")


def _close(text: str) -> dict[str, Any]:
    """Close an object that was cut off. A list that was cut off is left out with its key."""
    parts = _open_parts(text)
    candidates = [text + '"' + parts.closers] if parts.in_string and parts.in_list is None else []
    complete = parts.complete if parts.in_list is None else parts.in_list
    kept = text[:complete].rstrip().rstrip(",")
    candidates += [kept + _open_parts(kept).closers]
    for candidate in candidates:
        try:
            value = _decoder().decode(candidate)
        except DECODER_ERRORS:
            continue
        if isinstance(value, dict):
            return value
    raise ValueError("the JSON object ends in the middle")


class _OpenParts(NamedTuple):
    """The state at the end of a JSON text that was cut off."""

    closers: str
    """The closing brackets that are missing."""
    in_string: bool
    complete: int
    """Length up to the end of the last complete member."""
    in_list: int | None
    """Length up to the member that holds the outermost open list. `None`: no list is open."""


def _open_parts(text: str) -> _OpenParts:
    """Scan the brackets and strings of a JSON text that was cut off."""
    stack: list[tuple[str, int]] = []
    in_string = escaped = False
    complete = 1
    for i, char in enumerate(text):
        if in_string:
            if escaped:
                escaped = False
            elif char == "\\":
                escaped = True
            elif char == '"':
                in_string = False
        elif char == '"':
            in_string = True
        elif char in "{[":
            stack.append(("}" if char == "{" else "]", complete))
            complete = i + 1
        elif char in "}]" and stack:
            stack.pop()
            complete = i + 1
        elif char == ",":
            complete = i
    in_list = next((start for closer, start in stack if closer == "]"), None)
    return _OpenParts("".join(closer for closer, _ in reversed(stack)), in_string, complete, in_list)


# Strict JSON schemas


def strict_schema(answer_type: type[BaseModel]) -> JsonSchema:
    """Return the strict JSON schema of a type, as servers with structured output accept it.

    Every property is required and no others are allowed. An integer range becomes an `enum`, because grammars
    (llama.cpp) ignore `minimum` and `maximum`. Keywords that strict servers reject are left out; pydantic
    checks every answer anyway.

    Raises:
        TypeError: If the type contains a free-form mapping. No strict schema can express one.
    """
    return JsonSchema(answer_type.__name__, _strict(answer_type.model_json_schema()))


def _strict(node: dict[str, Any]) -> dict[str, Any]:
    if "oneOf" in node:
        node = {**node, "anyOf": node["oneOf"]}
    if node.get("type") == "integer" and "enum" not in node:
        node = _range_as_enum(node)
    kept = {name: _strict_part(name, node[name]) for name in _SCHEMA_KEYWORDS if name in node}
    if node.get("type") == "object":
        if "properties" not in node:
            raise TypeError("a free-form mapping has no strict JSON schema: name its fields")
        kept |= {"required": list(node["properties"]), "additionalProperties": False}
    return kept


def _strict_part(name: str, part: Any) -> Any:
    if name in ("properties", "$defs"):
        return {key: _strict(value) for key, value in part.items()}
    if name == "anyOf":
        return [_strict(option) for option in part]
    return _strict(part) if name == "items" else part


def _range_as_enum(node: dict[str, Any]) -> dict[str, Any]:
    low = node.get("minimum", node.get("exclusiveMinimum", 0) + 1 if "exclusiveMinimum" in node else None)
    high = node.get("maximum", node.get("exclusiveMaximum", 0) - 1 if "exclusiveMaximum" in node else None)
    if low is None or high is None or not 0 <= high - low < WIDEST_ENUM:
        return node
    return {**node, "enum": list(range(int(low), int(high) + 1))}


def sum_call_costs(stage: str, calls: Iterable[tuple[str, Spent]]) -> tuple[StageCost, ...]:
    """Sum the costs of the calls of a stage, given as (model, cost), by model name in sorted order."""
    costs = [
        StageCost(
            stage=stage,
            model=model,
            calls=spent.tries,
            tokens_in=spent.tokens_in,
            tokens_out=spent.tokens_out,
            cost_usd=spent.cost_usd,
        )
        for model, spent in calls
    ]
    return combine_costs(sorted(costs, key=lambda cost: cost.model))
