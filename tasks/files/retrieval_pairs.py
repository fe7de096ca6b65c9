"""Read and write the formats of sentence-transformers, and MS MARCO triples.

They spread the passages of a query over columns or rows. Columns are identified by order, as in that
library: the first is the query (anchor), the second the positive or the passage. Consecutive rows with the
same query are one candidate set, and are written back in their order. A promoted negative is paired with
every negative that is left. Triplets and tuples cannot express a query without negatives: writing yields
nothing, and the caller writes the row to a side file.
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
    lists_beside,
    lists_layout,
    make_passage,
    make_set,
    rest_of,
    text_of,
    with_lists,
    write_lists,
)
from tasks.files.values import decode_value, encode_value

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
    """Return the columns `negative` and `negative_1` … `negative_n` that hold texts, in order."""
    numbered = [(int(m.group(1)), key) for key in record if (m := re.fullmatch(r"negative_(\d+)", key))]
    return ["negative"] * ("negative" in record) + [key for _, key in sorted(numbered)]


def _names(row: CandidateSet, kind: type, default: tuple[str, str]) -> tuple[str, str]:
    """Return the names of the columns of query and passage: those of the input if it has the same shape.

    Args:
        row: The candidate set.
        kind: `str` for formats with one passage per column, `list` for a column of passages.
        default: Names for inputs of another shape.
    """
    layout = layout_of(row)
    names = layout.get("names")
    return (names[0], names[1]) if names and layout.get("kind", "str") == kind.__name__ else default


def read_n_tuple(record: Record) -> CandidateSet:
    """Read `anchor, positive, negative_1 … negative_n`. Null columns are skipped."""
    names = column_names(record)
    columns = negative_columns(record)
    if not columns:
        raise BadRecordError("the column `negative_1` is missing")
    given = [key for key in columns if record[key] is not None]
    rest = rest_of(record, (*names, *columns))
    lists = lists_beside(_without_gaps(rest, columns, record), [True] + [False] * len(given))
    layout: dict[str, Any] = {"names": names, "width": len(columns)} | lists_layout(lists)
    if given != [f"negative_{i}" for i in range(1, len(columns) + 1)]:
        layout["columns"] = columns
    if len(given) < len(columns):
        layout["padded"] = True
    return make_set(
        text_of(record, names[0]),
        with_lists([make_passage(text_of(record, names[1]))], lists.positives),
        with_lists([make_passage(text_of(record, key)) for key in given], lists.negatives),
        columns=lists.columns,
        layout=layout,
    )


def _without_gaps(rest: Record, columns: Sequence[str], record: Record) -> Record:
    """Return the columns with lists as long as all passages without the entries of null columns."""
    kept = [True] + [record[key] is not None for key in columns]
    if all(kept):
        return rest
    return {
        name: [entry for entry, is_kept in zip(value, kept, strict=True) if is_kept]
        if isinstance(value, list) and len(value) == len(kept)
        else value
        for name, value in rest.items()
    }


def tuple_width(row: CandidateSet) -> int | None:
    """Return the number of negatives that an n-tuple had, `None` for other formats and tuples with gaps."""
    layout = layout_of(row)
    width = layout.get("width")
    return None if layout.get("padded") or width is None else int(width)


def write_n_tuple(row: CandidateSet) -> Iterator[Record]:
    """Yield one record per positive, each with all negatives."""
    layout = layout_of(row)
    if not row.negatives and not layout.get("padded"):
        return
    query, positive = _names(row, str, ("query", "positive"))
    names = layout.get("columns", [])
    names = [*names, *(f"negative_{i}" for i in range(1, len(row.negatives) + 1))]
    names = list(dict.fromkeys(names))[: max(len(row.negatives), len(layout.get("columns", [])))]
    texts = [n.text for n in row.negatives]
    padding = [None] * (len(names) - len(texts)) if layout.get("padded") else []
    negatives = dict(zip(names, [*texts, *padding], strict=False))
    for passage in row.positives:
        lists = write_lists(row, [passage], row.negatives, [passage, *row.negatives])
        lists = {
            name: [*value, *padding] if len(value) > len(texts) else value for name, value in lists.items()
        }
        yield {query: row.query, positive: passage.text} | negatives | columns_of(row) | lists


def read_labeled_list(record: Record) -> CandidateSet:
    """Read `query, passages[], labels[]`."""
    names = column_names(record, list)
    texts, labels = list_of(record, names[1], str), record.get("labels")
    if not isinstance(labels, list) or len(labels) != len(texts):
        raise BadRecordError("'labels' must be a list as long as the passages")
    binary = [_binary(label) for label in labels]
    sides = _sides(
        [
            (text, label, {"at": i} | _label_type(given))
            for i, (text, label, given) in enumerate(zip(texts, binary, labels, strict=True))
        ]
    )
    lists = lists_beside(rest_of(record, (*names, "labels")), [label == 1 for label in binary])
    return make_set(
        text_of(record, names[0]),
        with_lists(sides[0], lists.positives),
        with_lists(sides[1], lists.negatives),
        columns=lists.columns,
        layout={"names": names, "kind": "list"} | lists_layout(lists),
    )


def _label_type(label: Any) -> dict[str, Any]:
    return {} if type(label) is int else {"label": label}


def write_labeled_list(row: CandidateSet) -> Record:
    """Return the passages in their original order, with their new labels. Labels keep their type."""
    query, passages = _names(row, list, ("query", "passage"))
    labelled = _in_order(row)
    texts = [p.text for p, _ in labelled]
    kinds = {type(layout_of(p).get("label", 0)) for p, _ in labelled if "at" in layout_of(p)}
    kind = kinds.pop() if len(kinds) == 1 else int
    labels = [layout_of(p).get("soft", kind(label)) for p, label in labelled]
    lists = write_lists(row, row.positives, row.negatives, [p for p, _ in labelled])
    return {query: row.query, passages: texts, "labels": labels} | columns_of(row) | lists


def read_labeled_pairs(
    records: Iterable[LocatedRecord], bad: BadRows, positive_label: int = 1
) -> Iterator[CandidateSet]:
    """Read rows of `query, passage, label` (0 or 1). Consecutive rows of one query are one set.

    Args:
        records: The rows.
        bad: Takes invalid rows.
        positive_label: The label of positives. It is 0 if the dataset names label 0 so.
    """
    for names, rows in _groups(records, bad):
        entries = [
            (
                row[names[1]],
                int(_binary(row.get("label")) == positive_label),
                {"at": i, "label": row["label"]} | ({"flipped": True} if positive_label == 0 else {}),
                rest_of(row, (*names, "label")),
            )
            for i, row in enumerate(rows)
        ]
        yield make_set(rows[0][names[0]], *_sides(entries), layout={"names": names})


def write_labeled_pairs(row: CandidateSet) -> Iterator[Record]:
    """Yield one record per passage. Labels keep their type."""
    query, passage = _names(row, str, ("query", "passage"))
    is_flipped = any(layout_of(p).get("flipped") for p in (*row.positives, *row.negatives))
    for entry, label in _in_order(row):
        kind = type(layout_of(entry).get("label", 0))
        value = layout_of(entry).get("soft", kind(1 - label if is_flipped else label))
        yield {query: row.query, passage: entry.text, "label": value} | columns_of(entry)


def read_triplets(records: Iterable[LocatedRecord], bad: BadRows) -> Iterator[CandidateSet]:
    """Read rows of `anchor, positive, negative`. Consecutive rows of one query are one set."""
    for names, rows in _groups(records, bad, "negative"):
        positives = dict.fromkeys(row[names[1]] for row in rows)
        pairs: dict[str, list[list[Any]]] = {}
        for i, row in enumerate(rows):
            rest = encode_value(rest_of(row, (*names, "negative")))
            pairs.setdefault(row["negative"], []).append([i, row[names[1]], rest])
        yield make_set(
            rows[0][names[0]],
            [make_passage(text) for text in positives],
            [make_passage(text, layout={"pairs": of_text}) for text, of_text in pairs.items()],
            layout={"names": names},
        )


def write_triplets(row: CandidateSet) -> Iterator[Record]:
    """Yield the original pairs that are left, then each new positive with every negative."""
    yield from _triplets(row, *_names(row, str, ("query", "positive")))


def write_msmarco(row: CandidateSet) -> Iterator[Record]:
    """Yield triplets with the columns of a TSV file."""
    yield from _triplets(row, "query", "positive")


def _triplets(row: CandidateSet, query: str, positive: str) -> Iterator[Record]:
    original = [(i, text, n, rest) for n in row.negatives for i, text, rest in layout_of(n).get("pairs", ())]
    kept = {passage.text for passage in row.positives}
    for _, text, negative, rest in sorted(original, key=lambda pair: pair[0]):
        if text in kept:
            yield {query: row.query, positive: text, "negative": negative.text} | decode_value(rest)
    paired = {(text, negative.text) for _, text, negative, _ in original}
    in_file = {text for _, text, _, _ in original}
    for passage in row.positives:
        for negative in row.negatives:
            is_new = passage.text not in in_file or "pairs" not in layout_of(negative)
            if is_new and (passage.text, negative.text) not in paired:
                yield {query: row.query, positive: passage.text, "negative": negative.text}


def _groups(
    records: Iterable[LocatedRecord], bad: BadRows, third: str = "label"
) -> Iterator[tuple[tuple[str, str], list[Record]]]:
    """Yield consecutive records with the same query, and the names of their two columns.

    Args:
        records: The rows.
        bad: Takes invalid rows.
        third: The column beside the two: `label`, or `negative`.
    """
    names: tuple[str, str] | None = None
    rows: list[Record] = []
    for placed in records:
        try:
            names = names or column_names(placed.record)
            _check_columns(placed.record, names, third)
        except BadRecordError as error:
            bad.report(str(error), placed.place)
            continue
        if rows and (rows[0][names[0]] != placed.record[names[0]] or len(rows) >= ROWS_PER_SET):
            yield names, rows
            rows = []
        rows.append(placed.record)
    if names and rows:
        yield names, rows


def _check_columns(record: Record, names: Sequence[str], third: str) -> None:
    for name in (*names, *(["negative"] if third == "negative" else [])):
        text_of(record, name)
    if third == "label":
        _binary(record.get("label"))


def _binary(label: Any) -> int:
    if isinstance(label, str) and label.strip() in ("0", "1"):
        return int(label)
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
