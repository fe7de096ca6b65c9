"""Passages and candidate sets out of records: ids as they came, or content where there were none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import orjson

from schemas.labels import CandidateSet, Passage
from schemas.tables import content_id
from tasks.files.records import Record

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


# Formats with one record per query: FlagEmbedding, Tevatron in both forms (RLHN's among them), RankLLM.


FLAG_COLUMNS = ("query", "pos", "neg", "pos_scores", "neg_scores", "pos_id", "neg_id")
TEVATRON_COLUMNS = ("query_id", "query", "positive_passages", "negative_passages")
TEVATRON_ID_COLUMNS = ("query_id", "query_text", "positive_document_ids", "negative_document_ids")
DOC_TEXTS = ("text", "contents", "segment", "body", "passage", "content")


class Corpus(Protocol):
    """Passages by id; `None` where there is none."""

    def find(self, passage_id: str) -> Passage | None: ...


def read_flagembedding(record: Record) -> CandidateSet:
    """`query, pos[], neg[]`, with `pos_scores, neg_scores, pos_id, neg_id, prompt, type` where they are."""
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
        raise BadRecordError(f"'{side}_scores' has to be a list of numbers")
    return (make_passage(t, given_id=i, score=s) for t, i, s in zip(texts, ids, scores, strict=True))


def write_flagembedding(row: CandidateSet) -> Record:
    """Scores and ids are written where any passage has one."""
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
    """`query_id, query, positive_passages[{docid, text, title}], negative_passages`; RLHN adds `subset`."""
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
    """Every passage with its id; id columns beside the passages are kept in step with them."""
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
    """Rows that name their passages, `query_id, query_text, positive_document_ids, negative_document_ids`."""

    def read(record: Record) -> CandidateSet:
        return make_set(
            text_of(record, "query_text"),
            [_found(corpus, i) for i in list_of(record, "positive_document_ids", (str, int))],  # type: ignore[arg-type]
            [_found(corpus, i) for i in list_of(record, "negative_document_ids", (str, int), optional=True)],  # type: ignore[arg-type]
            query_id=record.get("query_id"),
            columns=rest_of(record, TEVATRON_ID_COLUMNS),
        )

    return read


def _found(corpus: Corpus, identifier: Any) -> Passage:
    passage = corpus.find(str(identifier))
    if passage is None:
        raise BadRecordError(f"the corpus has no passage {identifier!r}")
    return passage


def write_tevatron_ids(row: CandidateSet) -> Record:
    """Ids only; the corpus stays where it is."""
    return {
        "query_id": query_id_of(row),
        "query_text": row.query,
        "positive_document_ids": [given_id(p) for p in row.positives],
        "negative_document_ids": [given_id(p) for p in row.negatives],
    } | columns_of(row)


def rankllm_reader(relevant: Mapping[tuple[str, str], int]) -> Callable[[Record], CandidateSet]:
    """RankLLM requests, `query{text, qid}, candidates[{docid, score, doc{…}}]`. Requests have no positives:
    a candidate is one where it carries `label: 1`, or where `relevant` grades it above 0."""

    def read(record: Record) -> CandidateSet:
        query = record.get("query")
        if not isinstance(query, dict):
            raise BadRecordError("'query' has to be an object with `text` and `qid`")
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
        raise BadRecordError("a candidate has to have an object `doc`")
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
    """Positives first, each candidate with its `label`."""
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
