"""Read the answers of judges as people write them: JSON, lists, chains such as `[2] > [1]`, plain text.

Ids may be numbers, texts, `[3]` or `Doc (3)`. Reasoning before the answer is skipped.

References:
    The forms are those that the parsers of RankLLM and RLHN accept (github.com/castorini/rank_llm; arXiv
    2505.16967).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tasks.models.structured import find_json_object

NO_ANSWER = "NO_ANSWER"

_REASONING = re.compile(r"<(think|thinking|reasoning)>", re.IGNORECASE)
_REASONING_END = re.compile(r"</(?:think|thinking|reasoning)>", re.IGNORECASE)
_NOUN = r"(?:(?:doc(?:ument)?|passage|candidate|evidence|span|text|\b[dp])\s*)?"
# No part begins with spaces, or inside a number: a search stays linear in long runs of them.
_ID = rf"{_NOUN}(?:[\[(]\s*)?{_NOUN}#?(?<!\d)\d+(?:\s*[\])])?"
_BETTER = ">≻→"
"""Signs between the better and the worse id."""
_CHAIN = re.compile(rf"{_ID}(?:\s*(?:[{_BETTER}]+|[=,])\s*{_ID})*", re.IGNORECASE)
_RANKED = re.compile(rf"{_ID}(?:\s*(?:[{_BETTER}]+|=)\s*{_ID})+", re.IGNORECASE)
_NUMBERED_LINE = re.compile(
    rf"^[^\S\n]*(\d+)[.):]\s*({_ID})[ \t]*(?:[-–—:].*)?$", re.IGNORECASE | re.MULTILINE
)
_ONLY_NUMBERS = re.compile(r"\d+(?:\s+\d+)+")
_NONE = re.compile(r"^\W*(?:none|no|nothing|n/a)?\W*$", re.IGNORECASE)
_ONE_ID = re.compile(rf"^\s*{_ID}\s*(?:\.\s*)?$", re.IGNORECASE)
_NUMBER = re.compile(r"\d+")
_LISTS = {
    name: re.compile(rf"<{name}>(.*?)(?:</{name}>|$)", re.DOTALL | re.IGNORECASE)
    for name in ("better", "worse")
}
_NO_ANSWER = re.compile(r"^[\W_]*(?:no[\s_-]?answer[\W_]*$|(?-i:NO_ANSWER)\b)", re.IGNORECASE)
_QUOTES = ('""', "''", "“”", "‘’", "„“", "«»", "``")


@dataclass(frozen=True)
class RankedIds:
    """Groups of ids, best first. The ids of one group are tied."""

    groups: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class ComparedIds:
    """Ids of the two lists. If the answer was cut off, ids that are in neither are unknown."""

    better: frozenset[int]
    worse: frozenset[int]
    cut_off: bool = False


def without_reasoning(text: str) -> str:
    """Return an answer without the reasoning before it."""
    kept: list[str] = []
    unclosed: set[str] = set()
    at = 0
    for begin in _REASONING.finditer(text):
        name = begin[1].lower()
        if begin.start() < at or name in unclosed:
            continue
        end = re.compile(f"</{name}>", re.IGNORECASE).search(text, begin.end())
        if end is None:
            unclosed.add(name)
        else:
            kept.append(text[at : begin.start()])
            at = end.end()
    return _REASONING_END.split(" ".join([*kept, text[at:]]))[-1].strip()


def read_ranking(text: str, cut_off: bool) -> RankedIds:
    """Read a ranking. Raise `ValueError` if there is none."""
    text = without_reasoning(text)
    value = _json_member(text, "ranking", cut_off)
    groups = _groups_of(value) if value is not None else _chain_in(text)
    if not groups:
        raise ValueError("expected a ranking of ids, best first, such as [2, 1, 3]")
    return RankedIds(tuple(groups))


def _chain_in(text: str) -> list[tuple[int, ...]]:
    """Return the last chain of a text, a list with one id per line, or a list that is the whole last line."""
    text = text.replace("*", "")
    chains = [match.group() for match in _RANKED.finditer(text)]
    if chains:
        return _groups_of(chains[-1])
    numbered = _NUMBERED_LINE.findall(text)
    if len(numbered) > 1 and [int(place) for place, _ in numbered] == list(range(1, len(numbered) + 1)):
        return _groups_of([identifier for _, identifier in numbered])
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    last = lines[-1].strip("`") if lines else ""
    inner = re.sub(r"[\"']", "", last).strip()
    if inner.startswith("[") and inner.endswith("]") and inner.count("[") == 1:
        inner = inner[1:-1]
    if _ONLY_NUMBERS.fullmatch(inner):
        return _groups_of(inner.split())
    return _groups_of(inner) if _CHAIN.fullmatch(inner) else []


def _groups_of(value: Any) -> list[tuple[int, ...]]:
    """Return the groups of a list of ids, or of a chain as text."""
    if isinstance(value, bool) or value is None:
        return []
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return [(int(value),)]
    if isinstance(value, str):
        groups = [tuple(map(int, _NUMBER.findall(part))) for part in re.split(f"[{_BETTER},]", value)]
        return [group for group in groups if group]
    if isinstance(value, list):
        found = []
        for part in value:
            inner = _groups_of(part)
            found += [tuple(i for group in inner for i in group)] if isinstance(part, list) else inner
        return [group for group in found if group]
    return []


def read_comparison(text: str, cut_off: bool) -> ComparedIds:
    """Read the two lists of a comparison. Raise `ValueError` if one is missing, or if nothing was named."""
    text = without_reasoning(text)
    lists: dict[str, frozenset[int] | None] = {}
    found = _json_object(text, cut_off)
    for name in ("better", "worse"):
        if found is not None:
            value = found.get(name)
            lists[name] = _ids_of(value) if isinstance(value, list) else None
        else:
            match = _LISTS[name].search(text)
            inside = match.group(1) if match else ""
            first, last = inside.find("["), inside.rfind("]")
            lists[name] = _ids_of(inside[first + 1 : last]) if 0 <= first < last else None
    better, worse = lists["better"], lists["worse"]
    if cut_off and not (better or worse):
        raise ValueError("the answer was cut off before it named a passage")
    if not cut_off and (better is None or worse is None):
        raise ValueError("expected the lists `better` and `worse` of ids")
    return ComparedIds(better or frozenset(), worse or frozenset(), cut_off)


def _ids_of(value: Any) -> frozenset[int]:
    """Return the ids of a list. Raise `ValueError` if an entry is no id: it may stand for a passage."""
    found: set[int] = set()
    for part in value if isinstance(value, list) else [value]:
        if isinstance(part, float) and part.is_integer():
            part = int(part)
        numbers = _NUMBER.findall(str(part)) if isinstance(part, (int, str)) and part is not True else []
        is_none = part is None or (isinstance(part, str) and _NONE.match(part))
        if not numbers and not is_none:
            raise ValueError(f"{part!r} is not the id of a passage")
        found.update(map(int, numbers))
    return frozenset(found)


def read_grade(text: str, cut_off: bool) -> int:
    """Read a grade from 0 to 3. Raise `ValueError` if there is none."""
    text = without_reasoning(text)
    value = _json_member(text, "grade", cut_off)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    match = re.fullmatch(r"\W*(?:grade\W*)?([0-3])\W*", str(text if value is None else value), re.IGNORECASE)
    if match is None or isinstance(value, bool):
        raise ValueError("expected a grade from 0 to 3")
    return int(match.group(1))


def read_spans(text: str, cut_off: bool) -> tuple[str, ...]:
    """Read evidence: spans, none for `NO_ANSWER`. Raise `ValueError` if the answer is empty or unreadable."""
    text = without_reasoning(text)
    value = _json_member(text, "evidence", cut_off)
    if value is None and "{" in text:
        raise ValueError("expected one JSON object with `evidence`")
    given = [text] if value is None else value if isinstance(value, list) else [value]
    if not all(isinstance(span, str) for span in given):
        raise ValueError("`evidence` must be text")
    if value == [] and not cut_off:
        return ()
    if not any(span.strip() for span in given):
        raise ValueError("the evidence is empty; write NO_ANSWER if there is none")
    return tuple(span for span in given if span.strip() and not is_no_answer(span))


def is_no_answer(span: str) -> bool:
    """Check for the words that report a missing answer, with or without quotes and a full stop."""
    return _NO_ANSWER.match(span) is not None


def unquoted(span: str) -> str:
    """Return a span without the quotes around it."""
    span = span.strip()
    for pair in _QUOTES:
        left, right = pair[0], pair[1]
        if len(span) > 2 and span.startswith(left) and span.rstrip(".").endswith(right):
            return span.rstrip(".")[1:-1].strip()
    return span


def _json_object(text: str, cut_off: bool) -> dict[str, Any] | None:
    try:
        return find_json_object(text, cut_off=cut_off)
    except ValueError:
        return None


def _json_member(text: str, name: str, cut_off: bool) -> Any:
    found = _json_object(text, cut_off)
    return None if found is None else found.get(name)


def flatten(groups: Sequence[Sequence[int]]) -> list[int]:
    """Return the ids of all groups, in order."""
    return [identifier for group in groups for identifier in group]
