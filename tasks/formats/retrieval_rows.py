"""Formats with one record per query: FlagEmbedding, Tevatron in both forms (RLHN's among them), RankLLM."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from schemas.candidates import CandidateSet, Passage
from tasks.formats.retrieval_passages import (
    BadRecordError,
    columns_of,
    given_id,
    has_given_id,
    layout_of,
    list_of,
    make_passage,
    make_set,
    query_id_of,
    rest_of,
    text_of,
)
from tasks.formats.retrieval_records import Record

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
