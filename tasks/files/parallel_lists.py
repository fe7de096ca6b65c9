"""Keep lists that run parallel to the passages of a row in step with them.

A column such as `scores`, `neg_source` or `teacher_scores` has one entry per passage. Its entries travel with
the passages, so that a removed or promoted passage takes its entry along.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tasks.files.values import decode_value, encode_value

Side = Literal["all", "positive", "negative"]

LISTS = "lists"
"""Key in the layout of rows (side by column) and of passages (entry by column)."""
_SIDES: tuple[tuple[Side, re.Pattern[str]], ...] = (
    ("positive", re.compile(r"^(pos|positive|positives)(_|$)")),
    ("negative", re.compile(r"^(neg|negative|negatives|hard_neg|hard_negative)(_|$)")),
)
_PARALLEL_NAME = re.compile(
    r"(^|_)(scores?|ids?|sources?|labels?|grades?|ranks?|logits?|probs?|weights?|titles?|docids?)$", re.I
)
_OF_THE_ROW = re.compile(r"^(answers?|tags?|keywords?|aliases|categories|topics?|metadata|entities)$", re.I)
"""Names of lists that describe the query, however long they are."""


class UnclearListError(ValueError):
    """A list that seems to run parallel to the passages, but has another length."""


@dataclass
class ParallelLists:
    """The parallel lists of one row."""

    columns: dict[str, Any]
    """The columns that are no parallel lists."""
    sides: dict[str, Side] = field(default_factory=dict)
    positives: list[dict[str, Any]] = field(default_factory=list)
    """Entries by column of each positive, encoded."""
    negatives: list[dict[str, Any]] = field(default_factory=list)


def split_lists(columns: Mapping[str, Any], is_positive: Sequence[bool]) -> ParallelLists:
    """Take the parallel lists out of the columns of a row.

    Args:
        columns: The columns that the format does not define.
        is_positive: By passage, in the order of the file.

    Raises:
        UnclearListError: If a list is named like a parallel one or holds only numbers, but its length fits
            neither all passages nor one side, or fits both sides.
    """
    positives, negatives = sum(is_positive), len(is_positive) - sum(is_positive)
    lists = ParallelLists({}, {}, [{} for _ in range(positives)], [{} for _ in range(negatives)])
    for name, value in columns.items():
        side = _side_of(name, value, positives, negatives) if isinstance(value, list) else None
        if side is None:
            lists.columns[name] = value
            continue
        lists.sides[name] = side
        entries = iter(value)
        counters = {True: iter(lists.positives), False: iter(lists.negatives)}
        for positive in is_positive:
            passage = next(counters[positive])
            if side == "all" or (side == "positive") == positive:
                passage[name] = encode_value(next(entries))
    return lists


def _side_of(name: str, value: list[Any], positives: int, negatives: int) -> Side | None:
    """Return the passages that a list belongs to, or `None` if it belongs to the row."""
    lengths: dict[Side, int] = {
        "all": positives + negatives,
        "positive": positives,
        "negative": negatives,
    }
    size = len(value)
    named = next((side for side, pattern in _SIDES if pattern.search(name)), None)
    if named is not None:
        if size == lengths[named]:
            return named
        if size == 0 or not _looks_parallel(name, value):
            return None
        raise UnclearListError(f"{name!r} has {size} entries for {lengths[named]} {named} passages")
    if _OF_THE_ROW.search(name) or size == 0:
        return None
    if size == lengths["all"]:
        return "all"
    looks_parallel = _looks_parallel(name, value)
    if size == negatives != positives and (negatives > 1 or looks_parallel):
        return "negative"
    if looks_parallel:
        raise UnclearListError(
            f"{name!r} has {size} entries, which fits neither the {lengths['all']} passages nor only the "
            f"{negatives} negatives"
        )
    return None


def _looks_parallel(name: str, value: list[Any]) -> bool:
    numbers = all(entry is None or isinstance(entry, (int, float)) for entry in value)
    return numbers or _PARALLEL_NAME.search(name) is not None


def entry_of(passage_lists: Mapping[str, Any], name: str) -> Any:
    """Return the entry of a passage in a list.

    A promoted passage has its entry in the list of the negatives: `neg_x` goes to `pos_x`.
    """
    for candidate in (name, _counterpart(name)):
        if candidate in passage_lists:
            return decode_value(passage_lists[candidate])
    return None


def _counterpart(name: str) -> str:
    if name.startswith("pos"):
        return "neg" + name[3:] if not name.startswith("positive") else "negative" + name[8:]
    return name
