"""Convert records to passages and candidate sets, and back: FlagEmbedding, Tevatron, RLHN and RankLLM.

Ids are kept as they are in the file. Passages and queries without an id get a hash of their content.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import orjson

from schemas.labels import CandidateSet, Passage
from schemas.tables import content_id
from tasks.files.records import Record

LAYOUT = "_layout"
"""The key of `extra` that is not a column of the file."""


class BadRecordError(ValueError):
    """A record that violates its format."""


def text_of(record: Mapping[str, Any], key: str) -> str:
    """Return a text column. Raise `BadRecordError` if it is missing or not a text."""
    value = record.get(key)
    if not isinstance(value, str):
        raise BadRecordError(f"{key!r} must be a text" if key in record else f"{key!r} is missing")
    return value


def list_of(
    record: Mapping[str, Any], key: str, kind: type | tuple[type, ...], *, optional: bool = False
) -> list[Any]:
    """Return a list column with entries of one type. If `optional`, a missing or null column is empty."""
    value = record.get(key)
    if value is None and optional:
        return []
    if not isinstance(value, list) or not all(isinstance(entry, kind) for entry in value):
        entries = "texts" if kind is str else "objects" if kind is dict else "texts or numbers"
        raise BadRecordError(
            f"{key!r} must be a list of {entries}" if key in record else f"{key!r} is missing"
        )
    return value


def passage_id(text: str, title: str | None = None) -> str:
    """Return the id of a passage that has none in the file: a hash of its content."""
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
    """Return a passage. `columns` are carried through; `layout` helps its format to write it back."""
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
    """Return whether the id comes from the file."""
    return passage.id != passage_id(passage.text, passage.title)


def given_id(passage: Passage) -> Any:
    """Return the id in its original type, text or number."""
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
    """Return a candidate set. Its own id is a hash of its content."""
    own_id = content_id("query", query) if query_id is None else str(query_id)
    positives, negatives = tuple(positives), tuple(negatives)
    kept = dict(layout or {})
    if query_id is not None and not isinstance(query_id, str):
        kept["query_id"] = query_id
    return CandidateSet(
        id=content_id("set", own_id, query, [p.id for p in positives], [n.id for n in negatives]),
        query_id=own_id,
        query=query,
        positives=positives,
        negatives=negatives,
        extra=_extra(columns, kept),
    )


def query_id_of(row: CandidateSet) -> Any:
    """Return the query's id in its original type."""
    return layout_of(row).get("query_id", row.query_id)


def has_given_query_id(row: CandidateSet) -> bool:
    """Return whether the query's id comes from the file."""
    return row.query_id != content_id("query", row.query)


def _extra(columns: Mapping[str, Any] | None, layout: Mapping[str, Any]) -> str:
    return to_json(dict(columns or {}) | ({LAYOUT: layout} if layout else {}))


def columns_of(item: Passage | CandidateSet) -> dict[str, Any]:
    """Return the columns that are carried through."""
    return {key: value for key, value in orjson.loads(item.extra).items() if key != LAYOUT}


def layout_of(item: Passage | CandidateSet) -> dict[str, Any]:
    """Return the original layout: types of ids, column names, order of rows."""
    layout = orjson.loads(item.extra).get(LAYOUT)
    return layout if isinstance(layout, dict) else {}


def to_json(value: Any) -> str:
    """Return JSON with sorted keys. Dates become ISO text, NaN becomes null."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS, default=str).decode()


def rest_of(record: Record, known: Sequence[str]) -> Record:
    """Return the columns of a record that its format does not define. They are carried through."""
    return {key: value for key, value in record.items() if key not in known}


# --- formats with one record per query --------------------------------------------------------------------


FLAG_COLUMNS = ("query", "pos", "neg", "pos_scores", "neg_scores", "pos_id", "neg_id")
TEVATRON_COLUMNS = ("query_id", "query", "positive_passages", "negative_passages")
TEVATRON_ID_COLUMNS = ("query_id", "query_text", "positive_document_ids", "negative_document_ids")
DOC_TEXTS = ("text", "contents", "segment", "body", "passage", "content")


class Corpus(Protocol):
    """Passages by id."""

    def find(self, passage_id: str) -> Passage | None:
        """Return the passage with an id, or `None`."""
        ...


def read_flagembedding(record: Record) -> CandidateSet:
    """Read `query, pos[], neg[]`, and optional `pos_scores, neg_scores, pos_id, neg_id, prompt, type`."""
    return make_set(
        text_of(record, "query"),
        _flag_passages(record, "pos"),
        _flag_passages(record, "neg"),
        columns=rest_of(record, FLAG_COLUMNS),
    )


def _flag_passages(record: Record, side: str) -> Iterator[Passage]:
    texts = list_of(record, side, str, optional=side == "neg")
    ids = record.get(f"{side}_id") or [None] * len(texts)
    scores = record.get(f"{side}_scores") or [None] * len(texts)
    for name, column in ((f"{side}_id", ids), (f"{side}_scores", scores)):
        if not isinstance(column, list) or len(column) != len(texts):
            raise BadRecordError(f"{name!r} and {side!r} differ in length")
    if not all(score is None or isinstance(score, (int, float)) for score in scores):
        raise BadRecordError(f"'{side}_scores' must be a list of numbers")
    return (make_passage(t, given_id=i, score=s) for t, i, s in zip(texts, ids, scores, strict=True))


def write_flagembedding(row: CandidateSet) -> Record:
    """Return a record. Scores and ids are written if any passage has one."""
    passages = (*row.positives, *row.negatives)
    record: Record = {"query": row.query}
    for side, chosen in (("pos", row.positives), ("neg", row.negatives)):
        record[side] = [p.text for p in chosen]
    for side, chosen in (("pos", row.positives), ("neg", row.negatives)):
        if any(p.score is not None for p in passages):
            record[f"{side}_scores"] = [p.score for p in chosen]
        if any(has_given_id(p) for p in passages):
            record[f"{side}_id"] = [given_id(p) for p in chosen]
    return record | columns_of(row)


def read_tevatron(record: Record) -> CandidateSet:
    """Read `query_id, query, positive_passages[{docid, text, title}], negative_passages` (RLHN: `subset`)."""
    return make_set(
        text_of(record, "query"),
        [_tevatron_passage(p) for p in list_of(record, "positive_passages", dict)],
        [_tevatron_passage(p) for p in list_of(record, "negative_passages", dict, optional=True)],
        query_id=record.get("query_id"),
        columns=rest_of(record, TEVATRON_COLUMNS),
    )


def _tevatron_passage(passage: Record) -> Passage:
    title = passage.get("title")
    return make_passage(
        text_of(passage, "text"),
        given_id=passage.get("docid"),
        title=title if isinstance(title, str) else None,
        columns=rest_of(passage, ("docid", "text", "title")),
    )


def write_tevatron(row: CandidateSet) -> Record:
    """Return a record. Columns of ids beside the passages are updated with them."""
    record: Record = {
        "query_id": query_id_of(row),
        "query": row.query,
        "positive_passages": [_tevatron_record(p) for p in row.positives],
        "negative_passages": [_tevatron_record(p) for p in row.negatives],
    }
    beside = columns_of(row)
    for side, passages in (("positive", row.positives), ("negative", row.negatives)):
        if f"{side}_passage_ids" in beside:
            beside[f"{side}_passage_ids"] = [given_id(p) for p in passages]
    return record | beside


def _tevatron_record(passage: Passage) -> Record:
    title = {} if passage.title is None else {"title": passage.title}
    return {"docid": given_id(passage), "text": passage.text} | title | columns_of(passage)


def tevatron_id_reader(corpus: Corpus) -> Callable[[Record], CandidateSet]:
    """Return a reader of `query_id, query_text, positive_document_ids, negative_document_ids`."""

    def passages(ids: list[Any]) -> list[Passage]:
        return [_find_passage(corpus, i) for i in ids]

    def read(record: Record) -> CandidateSet:
        return make_set(
            text_of(record, "query_text"),
            passages(list_of(record, "positive_document_ids", (str, int))),
            passages(list_of(record, "negative_document_ids", (str, int), optional=True)),
            query_id=record.get("query_id"),
            columns=rest_of(record, TEVATRON_ID_COLUMNS),
        )

    return read


def _find_passage(corpus: Corpus, identifier: Any) -> Passage:
    passage = corpus.find(str(identifier))
    if passage is None:
        raise BadRecordError(f"the corpus has no passage {identifier!r}")
    return passage


def write_tevatron_ids(row: CandidateSet) -> Record:
    """Return a record of ids. The texts stay in the corpus."""
    return {
        "query_id": query_id_of(row),
        "query_text": row.query,
        "positive_document_ids": [given_id(p) for p in row.positives],
        "negative_document_ids": [given_id(p) for p in row.negatives],
    } | columns_of(row)


def rankllm_reader(relevant: Mapping[tuple[str, str], int]) -> Callable[[Record], CandidateSet]:
    """Return a reader of RankLLM requests, `query{text, qid}, candidates[{docid, score, doc{…}}]`.

    Requests have no positives. A candidate is one if its `label` is 1, or if `relevant` grades it above 0.
    """

    def read(record: Record) -> CandidateSet:
        query = record.get("query")
        if not isinstance(query, dict):
            raise BadRecordError("'query' must be an object with `text` and `qid`")
        sides: tuple[list[Passage], list[Passage]] = ([], [])
        for candidate in list_of(record, "candidates", dict):
            passage = _rankllm_passage(candidate)
            grade = candidate.get("label", relevant.get((str(query.get("qid")), passage.id), 0))
            sides[0 if grade > 0 else 1].append(passage)
        return make_set(
            text_of(query, "text"),
            *sides,
            query_id=query.get("qid"),
            columns=rest_of(record, ("query", "candidates")),
        )

    return read


def _rankllm_passage(candidate: Record) -> Passage:
    doc = candidate.get("doc")
    if not isinstance(doc, dict):
        raise BadRecordError("a candidate needs an object `doc`")
    key = next((key for key in DOC_TEXTS if isinstance(doc.get(key), str)), None)
    if key is None:
        raise BadRecordError(f"a candidate's `doc` has none of {', '.join(DOC_TEXTS)}")
    title = doc.get("title")
    return make_passage(
        doc[key],
        given_id=candidate.get("docid"),
        title=title if isinstance(title, str) else None,
        score=candidate.get("score"),
        columns=rest_of(candidate, ("docid", "score", "doc", "label")),
        layout={"doc": rest_of(doc, (key, "title")), "text": key},
    )


def write_rankllm(row: CandidateSet) -> Record:
    """Return a request with the positives first, each candidate with its `label`."""
    labelled = [(p, 1) for p in row.positives] + [(p, 0) for p in row.negatives]
    return {
        "query": {"text": row.query, "qid": query_id_of(row)},
        "candidates": [_rankllm_record(passage, label) for passage, label in labelled],
    } | columns_of(row)


def _rankllm_record(passage: Passage, label: int) -> Record:
    kept = layout_of(passage)
    doc = {} if passage.title is None else {"title": passage.title}
    doc |= {kept.get("text", "contents"): passage.text} | kept.get("doc", {})
    record = {"docid": given_id(passage), "score": passage.score or 0.0, "doc": doc, "label": label}
    return record | columns_of(passage)
