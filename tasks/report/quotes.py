"""Quote texts of a release on the report page, and write the queries behind its numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from schemas.question import Variant
from tasks.release import CONFIGS, config_file
from tasks.report.cells import COMBINATIONS_FILE, COVERAGE_FILE
from tasks.text.slots import split_at_slots

CONTROL_CHARACTERS = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufffe\uffff]"
)
"""Includes characters that change the text direction, because SVG cannot isolate them."""


def without_controls(text: str) -> str:
    """Remove characters that XML forbids or that change the direction of the surrounding text."""
    return CONTROL_CHARACTERS.sub("", text)


# Quotations: long texts are cut, slots and evidence are marked.


QUOTE_LENGTH = 600
"""Characters of a text on the page."""
MIN_QUOTATION = 6
"""Quotations shorter than this are not marked, because they occur everywhere."""

_QUOTED = re.compile(r"“([^”]+)”|\"([^\"]+)\"|«([^»]+)»|„([^“]+)“|‘([^’]+)’|(?<!\w)'([^']+)'(?!\w)")


@dataclass(frozen=True)
class QuoteSpan:
    """Part of a text. `marked`: whether it fills a slot or is evidence."""

    text: str
    marked: bool


@dataclass(frozen=True)
class Quotation:
    """The displayed part of a text."""

    spans: tuple[QuoteSpan, ...]
    total_length: int | None = None
    """Characters of the whole text. `None` if it is complete."""
    query: str = ""
    """Query that returns the whole text."""


def truncate_spans(spans: Sequence[QuoteSpan], query: str = "", most: int = QUOTE_LENGTH) -> Quotation:
    """Return the first `most` characters."""
    total = sum(len(s.text) for s in spans)
    kept: list[QuoteSpan] = []
    left = most
    for span in spans:
        if left > 0:
            kept.append(replace(span, text=span.text[:left]))
            left -= len(span.text)
    return Quotation(tuple(kept), total if total > most else None, query)


def quote(text: str, query: str = "", evidence: Iterable[str] = (), most: int = QUOTE_LENGTH) -> Quotation:
    """Return the beginning of a text with all evidence marked."""
    truncated = truncate_spans([QuoteSpan(text, False)], query, most)
    return replace(truncated, spans=mark_spans(text[:most], evidence))


def mark_spans(text: str, quoted: Iterable[str]) -> tuple[QuoteSpan, ...]:
    """Mark all occurrences of the given texts, ignoring case. Longer ones take precedence."""
    ordered = sorted({s for s in quoted if len(s) >= MIN_QUOTATION}, key=lambda s: (-len(s), s))
    if not ordered:
        return (QuoteSpan(text, False),)
    parts = re.split("(" + "|".join(map(re.escape, ordered)) + ")", text, flags=re.IGNORECASE)
    return tuple(QuoteSpan(part, bool(i % 2)) for i, part in enumerate(parts) if part)


def find_quotations(text: str) -> list[str]:
    """Return the texts between quotation marks."""
    return [next(filter(None, groups)).strip(" .,;…") for groups in _QUOTED.findall(text)]


def mark_variant(variant: Variant, template: str) -> tuple[QuoteSpan, ...]:
    """Mark the filled slots. Return the text unmarked if it does not match the template."""
    between = split_at_slots(template)[::2]
    if len(between) != len(variant.slots) + 1:
        return (QuoteSpan(variant.text, False),)
    spans = [QuoteSpan(between[0], False)]
    for slot, after in zip(variant.slots, between[1:], strict=True):
        spans += [QuoteSpan(slot, True), QuoteSpan(after, False)]
    if "".join(p.text for p in spans) != variant.text:
        return (QuoteSpan(variant.text, False),)
    return tuple(p for p in spans if p.text)


def mark_template(template: str, query: str = "") -> Quotation:
    """Mark the slots of a template, each with all of its options."""
    pieces = split_at_slots(template)
    between, slots = pieces[::2], pieces[1::2]
    spans = [QuoteSpan(between[0], False)]
    for slot, after in zip(slots, between[1:], strict=True):
        spans += [QuoteSpan(slot[2:-2], True), QuoteSpan(after, False)]
    return truncate_spans([p for p in spans if p.text], query)


# Queries: each number on the page links to a file of the release and carries the query that returns it.


MANIFEST_VIEW = "manifest.json"
VIEWS: Mapping[str, str] = MappingProxyType(
    {
        **{config: config_file(config) for config in CONFIGS},
        "coverage": COVERAGE_FILE,
        "combinations": COMBINATIONS_FILE,
        "manifest": MANIFEST_VIEW,
    }
)
"""File behind each view of the queries. data/report/tables.sql adds the views `released`, `judged` and
`lost`."""


def sql_literal(value: object) -> str:
    """Return a value as an SQL literal. Characters that a page cannot show are written as `chr(…)`."""
    if value is None:
        return "null"
    if isinstance(value, int | float):
        return str(value)
    quoted = "'" + str(value).replace("'", "''") + "'"
    return CONTROL_CHARACTERS.sub(lambda match: f"' || chr({ord(match.group())}) || '", quoted)


def sql_where(**columns: object) -> str:
    """Return an SQL condition such as `a = 'x' and b = 1`, with `is null` for `None`."""
    return " and ".join(
        f"{name} is null" if value is None else f"{name} = {sql_literal(value)}"
        for name, value in columns.items()
    )


def row_query(column: str, view: str, row_id: str) -> str:
    """Return the query for one column of one row."""
    return f"select {column} from {view} where {sql_where(id=row_id)}"  # noqa: S608 - shown, never run


FLOOR_EXPRESSIONS: Mapping[str, str] = MappingProxyType(
    {
        "low": "least(min(low), min(value))",
        "high": "greatest(max(high), max(value))",
        "n": "cast(sum(n) as bigint)",
    }
)
"""SQL expressions for the ends of the A/A floor and its sample size."""


def floor_query(end: str, metric: str, **columns: object) -> str:
    """Return the query for the `low` or `high` end of the A/A floor of a metric, or its sample size `n`."""
    slices = sql_where(level="control", name="a_a", **columns)
    pairs = f"split_part(metric, ':', 1) = {sql_literal(metric)}"
    return f"select {FLOOR_EXPRESSIONS[end]} from effects where {slices} and {pairs}"  # noqa: S608 - shown, never run
