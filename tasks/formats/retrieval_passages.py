"""Passages and candidate sets out of records: ids as they came, or content where there were none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from schemas.candidates import CandidateSet, Passage
from schemas.ids import content_id
from tasks.formats.retrieval_records import Record

LAYOUT = "_layout"
"""The one key of `extra` that is no column of the file."""


class BadRecordError(ValueError):
    """A record that is not what its format says; the message names what is wrong."""


def text_of(record: Mapping[str, Any], key: str) -> str:
    """A text column. Raises `BadRecordError` where it is absent or no text."""
    value = record.get(key)
    if not isinstance(value, str):
        raise BadRecordError(f"{key!r} has to be a text" if key in record else f"{key!r} is missing")
    return value


def list_of(record: Mapping[str, Any], key: str, kind: type, *, optional: bool = False) -> list[Any]:
    """A list column whose entries are all of one type; absent or null is empty where it is optional."""
    value = record.get(key)
    if value is None and optional:
        return []
    if not isinstance(value, list) or not all(isinstance(entry, kind) for entry in value):
        what = "texts" if kind is str else "objects"
        raise BadRecordError(
            f"{key!r} has to be a list of {what}" if key in record else f"{key!r} is missing"
        )
    return value


def passage_id(text: str, title: str | None = None) -> str:
    """The id of a passage that came without one."""
    return content_id("p", title or "", text)


def make_passage(
    text: str,
    *,
    given_id: Any = None,
    title: str | None = None,
    score: float | None = None,
    columns: Mapping[str, Any] | None = None,
    layout: Mapping[str, Any] | None = None,
) -> Passage:
    """A passage. `columns` are carried through, `layout` is what a format needs to write it back."""
    kept = dict(layout or {})
    if given_id is not None and not isinstance(given_id, str):
        kept["id"] = given_id
    return Passage(
        id=passage_id(text, title) if given_id is None else str(given_id),
        text=text,
        title=title,
        score=None if score is None else float(score),
        extra=_extra(columns, kept),
    )


def has_given_id(passage: Passage) -> bool:
    """Whether the id came with the file."""
    return passage.id != passage_id(passage.text, passage.title)


def given_id(passage: Passage) -> Any:
    """The id as the file had it, a number where it was one."""
    return layout_of(passage).get("id", passage.id)


def make_set(
    query: str,
    positives: Iterable[Passage],
    negatives: Iterable[Passage],
    *,
    query_id: Any = None,
    columns: Mapping[str, Any] | None = None,
    layout: Mapping[str, Any] | None = None,
) -> CandidateSet:
    """A candidate set; its own id is its content."""
    name = content_id("query", query) if query_id is None else str(query_id)
    positives, negatives = tuple(positives), tuple(negatives)
    kept = dict(layout or {})
    if query_id is not None and not isinstance(query_id, str):
        kept["query_id"] = query_id
    return CandidateSet(
        id=content_id("set", name, query, [p.id for p in positives], [n.id for n in negatives]),
        query_id=name,
        query=query,
        positives=positives,
        negatives=negatives,
        extra=_extra(columns, kept),
    )


def query_id_of(row: CandidateSet) -> Any:
    """The query's id as the file had it."""
    return layout_of(row).get("query_id", row.query_id)


def has_given_query_id(row: CandidateSet) -> bool:
    """Whether the query's id came with the file."""
    return row.query_id != content_id("query", row.query)


def _extra(columns: Mapping[str, Any] | None, layout: Mapping[str, Any]) -> str:
    return to_json(dict(columns or {}) | ({LAYOUT: layout} if layout else {}))


def columns_of(thing: Passage | CandidateSet) -> dict[str, Any]:
    """The columns that are carried through."""
    return {key: value for key, value in orjson.loads(thing.extra).items() if key != LAYOUT}


def layout_of(thing: Passage | CandidateSet) -> dict[str, Any]:
    """How the file had it: types of ids, column names, order of rows."""
    found = orjson.loads(thing.extra).get(LAYOUT)
    return found if isinstance(found, dict) else {}


def to_json(value: Any) -> str:
    """JSON with sorted keys; dates become ISO text, NaN becomes null."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS, default=str).decode()


def rest_of(record: Record, known: Sequence[str]) -> Record:
    """The columns of a record that a format does not know: they are carried through."""
    return {key: value for key, value in record.items() if key not in known}
