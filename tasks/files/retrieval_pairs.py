"""Read and write the formats of sentence-transformers, and MS MARCO triples.

They spread the passages of a query over columns or rows. Columns are identified by order, as in that
library: the first is the query (anchor), the second the positive or the passage. Consecutive rows with the
same query are one candidate set, and are written back in their order. A promoted negative is paired with
every negative that is left. Triplets and tuples cannot express a query without negatives: writing yields
nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from schemas.labels import CandidateSet, Passage
from tasks.files.records import BadRows, LocatedRecord, Record
from tasks.files.retrieval_rows import (
    BadRecordError,
    columns_of,
    layout_of,
    list_of,
    make_passage,
    make_set,
    rest_of,
    text_of,
)

LABEL_NAMES = ("label", "labels")
ROWS_PER_SET = 1000
"""Maximum number of rows of one query per candidate set, to bound memory."""


def column_names(record: Record, kind: type = str) -> tuple[str, str]:
    """Return the columns of query and passage: the first text, and the first other column of type `kind`."""
    query = next((k for k, v in record.items() if isinstance(v, str) and k not in LABEL_NAMES), None)
    passage = next(
        (k for k, v in record.items() if isinstance(v, kind) and k not in (query, *LABEL_NAMES)), None
    )
    if query is None or passage is None:
        raise BadRecordError("the record needs a query column and a passage column, in this order")
    return query, passage


def negative_columns(record: Record) -> list[str]:
    """Return the columns `negative`, or `negative_1` … `negative_n`, in order."""
    numbered = [(int(m.group(1)), key) for key in record if (m := re.fullmatch(r"negative_(\d+)", key))]
    return ["negative"] if "negative" in record else [key for _, key in sorted(numbered)]


def read_n_tuple(record: Record) -> CandidateSet:
    """Read `anchor, positive, negative_1 … negative_n`. Null columns are skipped."""
    names = column_names(record)
    columns = negative_columns(record)
    if not columns:
        raise BadRecordError("the column `negative_1` is missing")
    texts = [text_of(record, key) for key in columns if record[key] is not None]
    return make_set(
        text_of(record, names[0]),
        [make_passage(text_of(record, names[1]))],
        [make_passage(text) for text in texts],
        columns=rest_of(record, (*names, *columns)),
        layout={"names": names},
    )


def write_n_tuple(row: CandidateSet) -> Iterator[Record]:
    """Yield one record per positive, each with all negatives."""
    if not row.negatives:
        return
    query, positive = layout_of(row).get("names", ("query", "positive"))
    negatives = {f"negative_{i}": n.text for i, n in enumerate(row.negatives, start=1)}
    for passage in row.positives:
        yield {query: row.query, positive: passage.text} | negatives | columns_of(row)


def read_labeled_list(record: Record) -> CandidateSet:
    """Read `query, passages[], labels[]`."""
    names = column_names(record, list)
    texts, labels = list_of(record, names[1], str), record.get("labels")
    if not isinstance(labels, list) or len(labels) != len(texts):
        raise BadRecordError("'labels' must be a list as long as the passages")
    sides = _sides(
        [(text, _binary(label), {"at": i}) for i, (text, label) in enumerate(zip(texts, labels, strict=True))]
    )
    rest = rest_of(record, (*names, "labels"))
    return make_set(text_of(record, names[0]), *sides, columns=rest, layout={"names": names})


def write_labeled_list(row: CandidateSet) -> Record:
    """Return the passages in their original order, with their new labels."""
    query, passages = layout_of(row).get("names", ("query", "passage"))
    labelled = _in_order(row)
    texts, labels = [p.text for p, _ in labelled], [label for _, label in labelled]
    return {query: row.query, passages: texts, "labels": labels} | columns_of(row)


def read_labeled_pairs(records: Iterable[LocatedRecord], bad: BadRows) -> Iterator[CandidateSet]:
    """Read rows of `query, passage, label` (0 or 1). Consecutive rows of one query are one set."""
    for names, rows in _groups(records, bad):
        entries = [
            (
                row[names[1]],
                _binary(row.get("label")),
                {"at": i, "label": row["label"]},
                rest_of(row, (*names, "label")),
            )
            for i, row in enumerate(rows)
        ]
        yield make_set(rows[0][names[0]], *_sides(entries), layout={"names": names})


def write_labeled_pairs(row: CandidateSet) -> Iterator[Record]:
    """Yield one record per passage. Labels keep their type."""
    query, passage = layout_of(row).get("names", ("query", "passage"))
    for entry, label in _in_order(row):
        kind = type(layout_of(entry).get("label", 0))
        yield {query: row.query, passage: entry.text, "label": kind(label)} | columns_of(entry)


def read_triplets(records: Iterable[LocatedRecord], bad: BadRows) -> Iterator[CandidateSet]:
    """Read rows of `anchor, positive, negative`. Consecutive rows of one query are one set."""
    for names, rows in _groups(records, bad):
        positives = dict.fromkeys(row[names[1]] for row in rows)
        pairs: dict[str, list[list[Any]]] = {}
        for i, row in enumerate(rows):
            rest = rest_of(row, (*names, "negative"))
            pairs.setdefault(row["negative"], []).append([i, row[names[1]], rest])
        yield make_set(
            rows[0][names[0]],
            [make_passage(text) for text in positives],
            [make_passage(text, layout={"pairs": of_text}) for text, of_text in pairs.items()],
            layout={"names": names},
        )


def write_triplets(row: CandidateSet) -> Iterator[Record]:
    """Yield the original pairs that are left, then each new positive with every negative."""
    query, positive = layout_of(row).get("names", ("query", "positive"))
    original = [(i, text, n, rest) for n in row.negatives for i, text, rest in layout_of(n).get("pairs", ())]
    for _, text, negative, rest in sorted(original, key=lambda pair: pair[0]):
        yield {query: row.query, positive: text, "negative": negative.text} | rest
    paired = {(text, negative.text) for _, text, negative, _ in original}
    in_file = {text for _, text, _, _ in original}
    for passage in row.positives:
        for negative in row.negatives:
            is_new = passage.text not in in_file or "pairs" not in layout_of(negative)
            if is_new and (passage.text, negative.text) not in paired:
                yield {query: row.query, positive: passage.text, "negative": negative.text}


def _groups(records: Iterable[LocatedRecord], bad: BadRows) -> Iterator[tuple[tuple[str, str], list[Record]]]:
    """Yield consecutive records with the same query, and the names of their two columns."""
    names: tuple[str, str] | None = None
    rows: list[Record] = []
    for placed in records:
        try:
            names = names or column_names(placed.record)
            _check_texts(placed.record, names)
        except BadRecordError as error:
            bad.report(str(error), placed.place)
            continue
        if rows and (rows[0][names[0]] != placed.record[names[0]] or len(rows) >= ROWS_PER_SET):
            yield names, rows
            rows = []
        rows.append(placed.record)
    if names and rows:
        yield names, rows


def _check_texts(record: Record, names: Sequence[str]) -> None:
    for name in (*names, *(["negative"] if "label" not in record else [])):
        text_of(record, name)
    if "label" in record:
        _binary(record["label"])


def _binary(label: Any) -> int:
    if label not in (0, 1):
        raise BadRecordError(f"the label must be 0 or 1, but is {label!r}")
    return int(label)


def _sides(entries: Sequence[tuple[Any, ...]]) -> tuple[list[Passage], list[Passage]]:
    """Split entries of (text, label, layout, columns) into positives and negatives."""
    sides: tuple[list[Passage], list[Passage]] = ([], [])
    for text, label, layout, *columns in entries:
        side = sides[0 if label else 1]
        side.append(make_passage(text, layout=layout, columns=columns[0] if columns else None))
    return sides


def _in_order(row: CandidateSet) -> list[tuple[Passage, int]]:
    """Return passages with labels in the order of the file. Passages from other sources come last."""
    labelled = [(p, 1) for p in row.positives] + [(n, 0) for n in row.negatives]
    return sorted(labelled, key=lambda pair: layout_of(pair[0]).get("at", len(labelled) + ROWS_PER_SET))
