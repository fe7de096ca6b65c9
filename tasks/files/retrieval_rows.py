"""Convert records to passages and candidate sets, and back: FlagEmbedding, Tevatron, RLHN and RankLLM.

Ids are kept as they are in the file. Passages and queries without an id get a hash of their content.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Protocol, TypeVar

from schemas.labels import CandidateSet, Passage
from schemas.tables import content_id
from tasks.files.parallel_lists import LISTS, ParallelLists, UnclearListError, entry_of, split_lists
from tasks.files.records import Record
from tasks.files.values import decode_value, dump_json, encode_value, parse_json

SomeItem = TypeVar("SomeItem", Passage, CandidateSet)

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
    """Return a passage. `columns` are carried through; `layout` helps its format to write it back.

    Scores that are NaN are missing scores.
    """
    kept = dict(layout or {})
    if given_id is not None and not isinstance(given_id, str):
        kept["id"] = encode_value(given_id)
    if score is not None and not math.isfinite(score):
        score = None
    if score is not None and not isinstance(score, float):
        kept["score"] = encode_value(score)
    return Passage(
        id=passage_id(text, title) if given_id is None else str(given_id),
        text=text,
        title=title,
        score=None if score is None else float(score),
        extra=_extra(columns, kept),
    )


def given_score(passage: Passage) -> Any:
    """Return the score in its original type, `None` if it is missing."""
    kept = decode_value(layout_of(passage).get("score"))
    return kept if kept is not None and float(kept) == passage.score else passage.score


def read_title(value: Any) -> tuple[str | None, dict[str, Any]]:
    """Return a title as text for judges, and the layout that keeps a title of another type."""
    if isinstance(value, str):
        return value, {}
    parts = value if isinstance(value, list) else [value]
    texts = [str(part) for part in parts if isinstance(part, (str, int, float))]
    return ", ".join(texts) or None, {"title": encode_value(value)}


def title_column(passage: Passage, *, default: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the column `title` as it was in the file, or `default` if the file had none."""
    layout = layout_of(passage)
    if "title" in layout:
        return {"title": decode_value(layout["title"])}
    return dict(default or {}) if passage.title is None else {"title": passage.title}


def has_given_id(passage: Passage) -> bool:
    """Return whether the id comes from the file."""
    return passage.id != passage_id(passage.text, passage.title)


def given_id(passage: Passage) -> Any:
    """Return the id in its original type, text or number."""
    return decode_value(layout_of(passage).get("id", passage.id))


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
        kept["query_id"] = encode_value(query_id)
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
    return decode_value(layout_of(row).get("query_id", row.query_id))


def has_given_query_id(row: CandidateSet) -> bool:
    """Return whether the query's id comes from the file."""
    return row.query_id != content_id("query", row.query)


def _extra(columns: Mapping[str, Any] | None, layout: Mapping[str, Any]) -> str:
    return to_json(encode_value(dict(columns or {})) | ({LAYOUT: layout} if layout else {}))


def columns_of(item: Passage | CandidateSet) -> dict[str, Any]:
    """Return the columns that are carried through."""
    extra = parse_json(item.extra.encode())
    return {key: decode_value(value) for key, value in extra.items() if key != LAYOUT}


def layout_of(item: Passage | CandidateSet) -> dict[str, Any]:
    """Return the original layout: types of ids, column names, order of rows."""
    layout = parse_json(item.extra.encode()).get(LAYOUT)
    return layout if isinstance(layout, dict) else {}


def with_extra(item: SomeItem, layout: Mapping[str, Any], columns: Mapping[str, Any]) -> SomeItem:
    """Return an item with an updated layout and more columns. A layout entry of `None` is removed."""
    merged = layout_of(item) | dict(layout)
    kept = {key: value for key, value in merged.items() if value is not None or key == "soft"}
    return item.model_copy(update={"extra": _extra(columns_of(item) | dict(columns), kept)})


def to_json(value: Any) -> str:
    """Return JSON with sorted keys."""
    return dump_json(value, sort_keys=True).decode()


def rest_of(record: Record, known: Sequence[str]) -> Record:
    """Return the columns of a record that its format does not define. They are carried through."""
    return {key: value for key, value in record.items() if key not in known}


def lists_beside(columns: Mapping[str, Any], is_positive: Sequence[bool]) -> ParallelLists:
    """Take the lists that run parallel to the passages out of the columns of a row.

    Raises:
        BadRecordError: If the length of a list is unclear.
    """
    try:
        return split_lists(columns, is_positive)
    except UnclearListError as error:
        raise BadRecordError(str(error)) from None


def with_lists(passages: Iterable[Passage], entries: Sequence[Mapping[str, Any]]) -> list[Passage]:
    """Return passages with their entries of the parallel lists."""
    return [
        passage.model_copy(
            update={"extra": _extra(columns_of(passage), layout_of(passage) | {LISTS: dict(own)})}
        )
        if own
        else passage
        for passage, own in zip(passages, entries, strict=True)
    ]


def lists_layout(lists: ParallelLists) -> dict[str, Any]:
    """Return the part of a row's layout that names its parallel lists."""
    return {LISTS: lists.sides} if lists.sides else {}


def write_lists(
    row: CandidateSet, positives: Sequence[Passage], negatives: Sequence[Passage], order: Sequence[Passage]
) -> dict[str, list[Any]]:
    """Return the parallel lists of a row for the passages written. `order` is for lists of both sides."""
    chosen = {"all": order, "positive": positives, "negative": negatives}
    return {
        name: [entry_of(layout_of(passage).get(LISTS, {}), name) for passage in chosen[side]]
        for name, side in layout_of(row).get(LISTS, {}).items()
    }


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
    query = text_of(record, "query")
    sides = {side: list(_flag_passages(record, side)) for side in ("pos", "neg")}
    absent = [name for name in FLAG_COLUMNS[1:] if name in record and not _is_flag_list(record, name)]
    columns = rest_of(record, [name for name in FLAG_COLUMNS if name not in absent])
    columns = {name: value for name, value in columns.items() if value is None or name != "neg"}
    lists = lists_beside(columns, [True] * len(sides["pos"]) + [False] * len(sides["neg"]))
    return make_set(
        query,
        with_lists(sides["pos"], lists.positives),
        with_lists(sides["neg"], lists.negatives),
        columns=lists.columns,
        layout=lists_layout(lists) | _flag_layout(record, sides),
    )


def _is_flag_list(record: Record, name: str) -> bool:
    """Return whether a column holds one entry per passage. A null or empty list beside passages does not."""
    value, side = record[name], name.split("_")[0]
    return isinstance(value, list) and (len(value) > 0 or not record.get(side))


def _flag_layout(record: Record, sides: Mapping[str, Sequence[Passage]]) -> dict[str, Any]:
    """Return which lists the record has, unless it has those that `write_flagembedding` writes by default."""
    names = [n for n in FLAG_COLUMNS[3:] if n in record and _is_flag_list(record, n)]
    every = [*sides["pos"], *sides["neg"]]
    by_default = [
        f"{side}_{kind}"
        for kind, is_used in (
            ("scores", any(p.score is not None for p in every)),
            ("id", any(has_given_id(p) for p in every)),
        )
        if is_used
        for side in ("pos", "neg")
    ]
    layout: dict[str, Any] = {} if set(names) == set(by_default) else {"has": names}
    return layout if "neg" in record else layout | {"no_neg": True}


def _flag_passages(record: Record, side: str) -> Iterator[Passage]:
    texts = list_of(record, side, str, optional=side == "neg")
    ids = record.get(f"{side}_id") or []
    gap = {"id_gap": True} if ids else {}
    ids = ids or [None] * len(texts)
    scores = record.get(f"{side}_scores") or [None] * len(texts)
    for name, column in ((f"{side}_id", ids), (f"{side}_scores", scores)):
        if not isinstance(column, list) or len(column) != len(texts):
            raise BadRecordError(f"{name!r} and {side!r} differ in length")
    if not all(score is None or _is_number(score) for score in scores):
        raise BadRecordError(f"'{side}_scores' must be a list of numbers")
    return (
        make_passage(t, given_id=i, score=s, layout=gap if i is None else None)
        for t, i, s in zip(texts, ids, scores, strict=True)
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, Decimal)) and not isinstance(value, bool)


def write_flagembedding(row: CandidateSet) -> Record:
    """Return a record. Scores and ids are written if the record had them, or if any passage has one."""
    passages = (*row.positives, *row.negatives)
    layout = layout_of(row)
    scores = any(p.score is not None for p in passages)
    ids = any(has_given_id(p) for p in passages)
    names = [f"{side}_{kind}" for kind, is_used in (("scores", scores), ("id", ids)) if is_used
             for side in ("pos", "neg")]  # fmt: skip
    names = layout.get("has", names)
    record: Record = {"query": row.query}
    for side, chosen in (("pos", row.positives), ("neg", row.negatives)):
        record[side] = [p.text for p in chosen]
    for side, chosen in (("pos", row.positives), ("neg", row.negatives)):
        if f"{side}_scores" in names:
            record[f"{side}_scores"] = [given_score(p) for p in chosen]
        if f"{side}_id" in names:
            record[f"{side}_id"] = [None if layout_of(p).get("id_gap") else given_id(p) for p in chosen]
    columns = columns_of(row)
    if not row.negatives and ("no_neg" in layout or "neg" in columns):
        del record["neg"]
    columns = {name: value for name, value in columns.items() if name not in record}
    return record | columns | write_lists(row, row.positives, row.negatives, passages)


def read_tevatron(record: Record) -> CandidateSet:
    """Read `query_id, query, positive_passages[{docid, text, title}], negative_passages` (RLHN: `subset`)."""
    positives = [_tevatron_passage(p) for p in list_of(record, "positive_passages", dict)]
    negatives = [_tevatron_passage(p) for p in list_of(record, "negative_passages", dict, optional=True)]
    columns = rest_of(record, TEVATRON_COLUMNS)
    beside = {name: columns.pop(name) for name in _TEVATRON_IDS if name in columns}
    lists = lists_beside(columns, [True] * len(positives) + [False] * len(negatives))
    return make_set(
        text_of(record, "query"),
        with_lists(positives, lists.positives),
        with_lists(negatives, lists.negatives),
        query_id=record.get("query_id"),
        columns=lists.columns | beside,
        layout=lists_layout(lists) | _absent(record, "negative_passages", "query_id"),
    )


_TEVATRON_IDS = ("positive_passage_ids", "negative_passage_ids")


def _absent(record: Record, *names: str) -> dict[str, Any]:
    """Return the layout of columns that a record lacks or leaves empty (null)."""
    absent = {name: name in record for name in names if record.get(name) is None}
    return {"absent": absent} if absent else {}


def _without_absent(record: Record, row: CandidateSet, filled: Mapping[str, bool]) -> Record:
    """Undo the columns that the input lacked, unless they are filled now."""
    for name, is_null in layout_of(row).get("absent", {}).items():
        if not filled.get(name) and is_null:
            record[name] = None
        elif not filled.get(name):
            record.pop(name, None)
    return record


def _tevatron_passage(passage: Record) -> Passage:
    title, layout = read_title(passage["title"]) if "title" in passage else (None, {})
    if passage.get("docid") is None:
        layout["no_id"] = "docid" in passage
    return make_passage(
        text_of(passage, "text"),
        given_id=passage.get("docid"),
        title=title,
        columns=rest_of(passage, ("docid", "text", "title")),
        layout=layout,
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
    lists = write_lists(row, row.positives, row.negatives, (*row.positives, *row.negatives))
    record = record | beside | lists
    return _without_absent(record, row, {"negative_passages": bool(row.negatives)})


def _tevatron_record(passage: Passage) -> Record:
    record: Record = {"docid": given_id(passage), "text": passage.text} | title_column(passage)
    no_id = layout_of(passage).get("no_id")
    if no_id is not None:
        record = record | {"docid": None} if no_id else {k: v for k, v in record.items() if k != "docid"}
    return record | columns_of(passage)


def tevatron_id_reader(corpus: Corpus) -> Callable[[Record], CandidateSet]:
    """Return a reader of `query_id, query_text, positive_document_ids, negative_document_ids`."""

    def passages(ids: list[Any]) -> list[Passage]:
        return [_find_passage(corpus, i) for i in ids]

    def read(record: Record) -> CandidateSet:
        positives = passages(list_of(record, "positive_document_ids", (str, int)))
        negatives = passages(list_of(record, "negative_document_ids", (str, int), optional=True))
        is_positive = [True] * len(positives) + [False] * len(negatives)
        lists = lists_beside(rest_of(record, TEVATRON_ID_COLUMNS), is_positive)
        return make_set(
            text_of(record, "query_text"),
            with_lists(positives, lists.positives),
            with_lists(negatives, lists.negatives),
            query_id=record.get("query_id"),
            columns=lists.columns,
            layout=lists_layout(lists) | _absent(record, "negative_document_ids", "query_id"),
        )

    return read


def _find_passage(corpus: Corpus, identifier: Any) -> Passage:
    passage = corpus.find(str(identifier))
    if passage is None:
        raise BadRecordError(f"the corpus has no passage {identifier!r}")
    if type(identifier) is type(given_id(passage)):
        return passage
    layout = layout_of(passage) | {"id": encode_value(identifier)}
    return passage.model_copy(update={"extra": _extra(columns_of(passage), layout)})


def write_tevatron_ids(row: CandidateSet) -> Record:
    """Return a record of ids. The texts stay in the corpus."""
    record: Record = {
        "query_id": query_id_of(row),
        "query_text": row.query,
        "positive_document_ids": [given_id(p) for p in row.positives],
        "negative_document_ids": [given_id(p) for p in row.negatives],
    }
    lists = write_lists(row, row.positives, row.negatives, (*row.positives, *row.negatives))
    record = record | columns_of(row) | lists
    return _without_absent(record, row, {"negative_document_ids": bool(row.negatives)})


def rankllm_reader(relevant: Mapping[tuple[str, str], float]) -> Callable[[Record], CandidateSet]:
    """Return a reader of RankLLM requests, `query{text, qid}, candidates[{docid, score, doc{…}}]`.

    Requests have no positives. A candidate is one if its `label` is above 0, or if `relevant` grades it above
    0. A candidate with the label null is unjudged: it keeps this label unless it is promoted.
    """

    def read(record: Record) -> CandidateSet:
        query = record.get("query")
        if not isinstance(query, dict):
            raise BadRecordError("'query' must be an object with `text` and `qid`")
        candidates = list_of(record, "candidates", dict)
        grades = [_rankllm_grade(candidate, str(query.get("qid")), relevant) for candidate in candidates]
        lists = lists_beside(rest_of(record, ("query", "candidates")), [grade > 0 for grade in grades])
        sides: tuple[list[Passage], list[Passage]] = ([], [])
        for place, (candidate, grade) in enumerate(zip(candidates, grades, strict=True)):
            sides[0 if grade > 0 else 1].append(_rankllm_passage(candidate, place))
        beside = rest_of(query, ("text", "qid"))
        return make_set(
            text_of(query, "text"),
            with_lists(sides[0], lists.positives),
            with_lists(sides[1], lists.negatives),
            query_id=query.get("qid"),
            columns=lists.columns,
            layout=lists_layout(lists) | ({"query": encode_value(beside)} if beside else {}),
        )

    return read


def _rankllm_grade(candidate: Record, query_id: str, relevant: Mapping[tuple[str, str], float]) -> float:
    if "label" not in candidate:
        return relevant.get((query_id, str(candidate.get("docid"))), 0)
    label = candidate["label"]
    if label is None:
        return 0
    try:
        grade = float(label)
    except (TypeError, ValueError):
        grade = math.nan
    if not math.isfinite(grade):
        raise BadRecordError(f"the label of candidate {candidate.get('docid')!r} is no number: {label!r}")
    return grade


def _rankllm_passage(candidate: Record, place: int) -> Passage:
    doc = candidate.get("doc")
    if not isinstance(doc, dict):
        raise BadRecordError("a candidate needs an object `doc`")
    key = next((key for key in DOC_TEXTS if isinstance(doc.get(key), str)), None)
    if key is None:
        raise BadRecordError(f"a candidate's `doc` has none of {', '.join(DOC_TEXTS)}")
    score = candidate.get("score")
    if score is not None and not _is_number(score):
        raise BadRecordError(f"the score of candidate {candidate.get('docid')!r} is no number: {score!r}")
    title, layout = read_title(doc["title"]) if "title" in doc else (None, {})
    layout |= {"doc": encode_value(rest_of(doc, (key, "title"))), "text": key, "at": place}
    label = candidate.get("label", 0)
    if type(label) is not int or label not in (0, 1):
        layout["label"] = encode_value(label)
    if score is None and "score" in candidate:
        layout["null_score"] = True
    return make_passage(
        doc[key],
        given_id=candidate.get("docid"),
        title=title,
        score=score,
        columns=rest_of(candidate, ("docid", "score", "doc", "label")),
        layout=layout,
    )


def write_rankllm(row: CandidateSet) -> Record:
    """Return a request with the candidates in their order, each with its `label`. New ones come last."""
    labelled = [(p, 1) for p in row.positives] + [(p, 0) for p in row.negatives]
    ordered = sorted(labelled, key=lambda pair: layout_of(pair[0]).get("at", math.inf))
    query = {"text": row.query, "qid": query_id_of(row)} | decode_value(layout_of(row).get("query", {}))
    record: Record = {
        "query": query,
        "candidates": [_rankllm_record(passage, label) for passage, label in ordered],
    }
    lists = write_lists(row, row.positives, row.negatives, [passage for passage, _ in ordered])
    return record | columns_of(row) | lists


def _rankllm_record(passage: Passage, label: int) -> Record:
    kept = layout_of(passage)
    doc = title_column(passage) | {kept.get("text", "contents"): passage.text}
    doc |= decode_value(kept.get("doc", {}))
    record: Record = {"docid": given_id(passage)}
    if passage.score is not None:
        record["score"] = given_score(passage)
    elif kept.get("null_score"):
        record["score"] = None
    return record | {"doc": doc, "label": _rankllm_label(kept, label)} | columns_of(passage)


def _rankllm_label(layout: Mapping[str, Any], label: int) -> Any:
    """Return the label as it was in the file, unless a judge changed it."""
    if "label" not in layout:
        return label
    before = decode_value(layout["label"])
    if before is None:
        return 1 if label else None
    return before if (float(before) > 0) == bool(label) else type(before)(label)
