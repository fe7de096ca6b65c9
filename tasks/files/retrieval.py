"""Read and write retrieval training sets in the formats that people train with.

flagembedding     query, pos[], neg[] …             n-tuple        anchor, positive, negative_1 …
tevatron, rlhn    positive_passages[{docid …}] …    triplet        anchor, positive, negative
tevatron-ids      positive_document_ids[] …         labeled-pair   query, passage, label
rankllm           query{}, candidates[]             labeled-list   query, passages[], labels[]
beir              a folder                          msmarco        query <tab> positive <tab> negative
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from schemas.errors import InputError
from schemas.labels import CandidateSet, Passage
from tasks.files.records import (
    BadRows,
    LocatedRecord,
    Record,
    arrow_schema,
    container_of,
    holds_array,
    read_records,
    schema_of,
    tsv_header,
    write_records,
)
from tasks.files.retrieval_beir import find_jsonl, passage_store, read_beir, write_beir
from tasks.files.retrieval_pairs import (
    negative_columns,
    read_labeled_list,
    read_labeled_pairs,
    read_n_tuple,
    read_triplets,
    write_labeled_list,
    write_labeled_pairs,
    write_msmarco,
    write_n_tuple,
    write_triplets,
)
from tasks.files.retrieval_rows import (
    BadRecordError,
    columns_of,
    has_given_id,
    has_given_query_id,
    layout_of,
    rankllm_reader,
    read_flagembedding,
    read_tevatron,
    tevatron_id_reader,
    write_flagembedding,
    write_rankllm,
    write_tevatron,
    write_tevatron_ids,
)
from tasks.files.values import parse_json

WRITERS: Mapping[str, Callable[[CandidateSet], Iterable[Record]]] = {
    "flagembedding": lambda row: (write_flagembedding(row),),
    "tevatron": lambda row: (write_tevatron(row),),
    "rlhn": lambda row: (write_tevatron(row),),
    "tevatron-ids": lambda row: (write_tevatron_ids(row),),
    "rankllm": lambda row: (write_rankllm(row),),
    "n-tuple": write_n_tuple,
    "triplet": write_triplets,
    "labeled-pair": write_labeled_pairs,
    "labeled-list": lambda row: (write_labeled_list(row),),
    "msmarco": write_msmarco,
}
FORMATS = (*WRITERS, "beir")
ONE_RECORD_PER_SET = tuple(name for name in WRITERS if name not in ("triplet", "labeled-pair", "msmarco"))
"""Formats with one candidate set per record. In the others, a set takes several records."""


@dataclass(frozen=True)
class Source:
    """A retrieval set to read."""

    path: Path
    format: str
    corpus: Path | None = None
    """Passages of `tevatron-ids`. Default: `corpus.jsonl` in the same folder."""
    relevant: Mapping[tuple[str, str], float] | None = None
    """Grades by (query id, passage id). Candidates of RankLLM requests with a grade above 0 are positives."""
    split: str | None = None
    """The split to read, for folders with several."""


def detect_format(path: Path, split: str | None = None) -> str:
    """Return the format of a file or folder, by its name and first record. Raise `InputError` if unknown."""
    if path.is_dir() and any(path.glob("corpus.jsonl*")) and (path / "qrels").is_dir():
        return "beir"
    if path.is_file() and container_of(path) == "tsv":
        return "msmarco"
    bad = BadRows(skip=True)
    first = next(iter(read_records(path, bad, split)), None)
    if first is None and bad.count:
        next(iter(read_records(path, BadRows(), split)), None)  # raises the error of the first row
    if first is None:
        raise InputError("the file has no rows", place=str(path), hint="if that is intended, name the format")
    name = record_format(first.record)
    if name is None:
        raise InputError(
            f"no known format has the columns {', '.join(first.record)}",
            place=first.place,
            hint=f"name the format: {', '.join(FORMATS)}",
        )
    return name


def record_format(record: Record) -> str | None:
    """Return the format with the columns of a record, or `None`."""
    if "pos" in record and "query" in record:
        return "flagembedding"
    if "positive_passages" in record:
        return "rlhn" if "subset" in record else "tevatron"
    if "positive_document_ids" in record:
        return "tevatron-ids"
    if "candidates" in record and isinstance(record.get("query"), dict):
        return "rankllm"
    columns = [name for name in negative_columns(record) if isinstance(record[name], (str, type(None)))]
    if isinstance(record.get("labels"), list) and not columns:
        return "labeled-list"
    if "label" in record and not columns:
        return "labeled-pair"
    if columns:
        return "triplet" if columns == ["negative"] else "n-tuple"
    return None


def check_format(name: str) -> str:
    """Return the name of a format. Raise `InputError` with the known names if it is unknown."""
    if name not in FORMATS:
        raise InputError(f"there is no format {name!r}", hint=f"known formats: {', '.join(FORMATS)}")
    return name


def read_candidate_sets(source: Source, bad: BadRows, *, start: int = 0) -> Iterator[CandidateSet]:
    """Yield the candidate sets of a file one at a time.

    Args:
        source: The file.
        bad: Takes invalid rows.
        start: Sets to leave out at the beginning, in formats of `ONE_RECORD_PER_SET`.
    """
    if check_format(source.format) == "beir":
        yield from read_beir(source.path, bad, source.split)
        return
    records = islice(read_records(source.path, bad, source.split), start, None)
    match source.format:
        case "triplet" | "msmarco":
            yield from read_triplets(records, bad)
        case "labeled-pair":
            yield from read_labeled_pairs(records, bad, positive_label(source))
        case "tevatron-ids":
            corpus = source.corpus or find_jsonl(source.path.parent, "corpus")
            with passage_store(corpus, bad) as passages:
                yield from _read_rows(records, tevatron_id_reader(passages), bad)
        case _:
            yield from _read_rows(records, _row_reader(source), bad)


def _row_reader(source: Source) -> Callable[[Record], CandidateSet]:
    return {
        "flagembedding": read_flagembedding,
        "tevatron": read_tevatron,
        "rlhn": read_tevatron,
        "rankllm": rankllm_reader(source.relevant or {}),
        "n-tuple": read_n_tuple,
        "labeled-list": read_labeled_list,
    }[source.format]


def _read_rows(
    records: Iterable[LocatedRecord], read: Callable[[Record], CandidateSet], bad: BadRows
) -> Iterator[CandidateSet]:
    for placed in records:
        try:
            row = read(placed.record)
        except BadRecordError as error:
            bad.report(str(error), placed.place)
            continue
        yield row


_POSITIVE_NAME = re.compile(
    r"^(positive|pos|relevant|good|yes|true|match|duplicate|entailment|answers?|correct|perfect)$", re.I
)


def positive_label(source: Source) -> int:
    """Return the label of positives: 1, or 0 if the dataset's label names call label 0 the positive one.

    Raises:
        InputError: If both labels have the name of a positive one.
    """
    schema = arrow_schema(source.path, source.split)
    metadata = (schema.metadata or {}) if schema is not None else {}
    names: Any = metadata.get(b"huggingface", b"{}")
    try:
        names = parse_json(names)
    except ValueError:
        names = None  # the metadata of the file are no JSON
    for key in ("info", "features", "label", "names"):
        names = names.get(key) if isinstance(names, dict) else None
    if not isinstance(names, list) or len(names) != 2:
        return 1
    positive = [bool(_POSITIVE_NAME.match(str(name))) for name in names]
    if all(positive):
        raise InputError(
            f"the label names {names[0]} and {names[1]} both mean positive",
            place=str(source.path),
            hint="rename the labels of the dataset",
        )
    return 0 if positive[0] else 1


def write_candidate_sets(
    path: Path,
    name: str,
    sets: Callable[[], Iterable[CandidateSet]],
    source: Source | None = None,
    *,
    soft_labels: bool = False,
) -> int:
    """Write candidate sets atomically.

    Args:
        path: File, or folder for BEIR.
        name: The format.
        sets: Called once per pass.
        source: The input. A BEIR input lends its corpus and queries to a BEIR output, a TSV file its header,
            and the columns of a Parquet file or a saved dataset keep their types.
        soft_labels: Whether scores and labels are floating-point numbers, also if the input has integers.

    Returns:
        The number of records.
    """
    check_target(path, name)
    if name == "beir":
        return write_beir(path, sets, source.path if source and source.format == "beir" else None)
    records = records_of(name, sets)
    kind = container_of(path)
    if kind == "parquet":
        like = _like(source, name)
        return write_records(path, records, like=_with_soft_labels(like) if soft_labels else like)
    is_tsv = source is not None and source.path.is_file() and container_of(source.path) == "tsv"
    header = tsv_header(source.path) if kind == "tsv" and source is not None and is_tsv else None
    return write_records(path, records, header=header, array=_is_array(path, source))


def _is_array(path: Path, source: Source | None) -> bool:
    """Return whether `.json` is written as one array: always, unless the input has one object per line."""
    if container_of(path) != "json":
        return False
    has_lines = source is not None and source.path.is_file() and container_of(source.path) == "json"
    return not (has_lines and source is not None and not holds_array(source.path))


def records_of(name: str, sets: Callable[[], Iterable[CandidateSet]]) -> Callable[[], Iterator[Record]]:
    """Return a function that yields the records of candidate sets in a format."""
    write = WRITERS[name]
    return lambda: (record for row in sets() for record in write(row))


def _like(source: Source | None, name: str) -> Any:
    """Return the Arrow schema of the input. Of another format, only the columns that are carried through."""
    schema = arrow_schema(source.path, source.split) if source is not None else None
    if schema is None or source is None or source.format == name:
        return schema
    import pyarrow as pa

    return pa.schema([field for field in schema if not _DEFINED.match(field.name)])


_DEFINED = re.compile(
    r"^(query|query_id|query_text|pos|neg|(pos|neg)_(id|scores)|anchor|passages?|labels?|candidates"
    r"|(positive|negative)(_.*)?)$"
)
"""Columns that some format defines."""


def _with_soft_labels(schema: Any) -> Any:
    """Return the schema with floating-point numbers in the fields that hold soft labels."""
    import pyarrow as pa

    if schema is None:
        return None

    def number(kind: Any) -> Any:
        return kind if pa.types.is_floating(kind) else pa.float64()

    def widened(field: Any) -> Any:
        kind = field.type
        if field.name == "label":
            return field.with_type(number(kind))
        if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
            return field
        if field.name in _SOFT_LISTS:
            return field.with_type(pa.list_(number(kind.value_type)))
        if field.name in _SCORED_STRUCTS and pa.types.is_struct(kind.value_type):
            inside = [part for part in kind.value_type if part.name != "score"]
            return field.with_type(pa.list_(pa.struct([*inside, pa.field("score", pa.float64())])))
        return field

    return pa.schema([widened(field) for field in schema])


_SOFT_LISTS = frozenset(("pos_scores", "neg_scores", "scores", "labels"))
_SCORED_STRUCTS = frozenset(("positive_passages", "negative_passages", "candidates"))


def check_parquet(source: Source, name: str, bad: BadRows) -> None:
    """Raise `InputError` if Parquet cannot hold the columns of the input, before anything is judged."""
    schema_of(records_of(name, lambda: read_candidate_sets(source, bad)), _like(source, name))


def check_target(path: Path, name: str) -> None:
    """Raise `InputError` if a format cannot be written to a file of that name."""
    if check_format(name) != "beir" and (container_of(path) == "tsv") != (name == "msmarco"):
        raise InputError(
            f"{name} cannot be written to {path.name}",
            hint="write msmarco to .tsv, other formats to .jsonl or .parquet",
        )


# --- losses of a conversion -------------------------------------------------------------------------------


PRESERVES: Mapping[str, frozenset[str]] = {
    "flagembedding": frozenset({"passage ids", "scores", "columns of rows"}),
    "tevatron": frozenset({"query ids", "passage ids", "titles", "columns of rows", "columns of passages"}),
    "tevatron-ids": frozenset({"query ids", "passage ids", "columns of rows"}),
    "rankllm": frozenset(
        {"query ids", "passage ids", "scores", "titles", "columns of rows", "columns of passages"}
    ),
    "n-tuple": frozenset({"columns of rows"}),
    "triplet": frozenset(),
    "labeled-pair": frozenset({"columns of passages"}),
    "labeled-list": frozenset({"columns of rows"}),
    "msmarco": frozenset(),
    "beir": frozenset({"query ids", "passage ids", "titles", "columns of rows", "columns of passages"}),
}
"""Information that a format preserves besides texts and labels. (`rlhn` is `tevatron`.)"""

_NEEDS_NEGATIVES = ("triplet", "n-tuple", "msmarco")
_NOT_IN_TSV = re.compile(r"[\t\r\n]")


def losses_of(row: CandidateSet, name: str) -> Counter[str]:
    """Count the ids, titles, scores, columns, rows and line breaks of a row that a format loses."""
    is_padded = name == "n-tuple" and bool(layout_of(row).get("padded"))
    if name in _NEEDS_NEGATIVES and not ((row.negatives or is_padded) and row.positives):
        return Counter({"rows without a positive or a negative": 1})
    present = Counter(
        {
            "query ids": int(has_given_query_id(row)),
            "columns of rows": len(columns_of(row)),
        }
    )
    for passage in (*row.positives, *row.negatives):
        present.update(_passage_information(passage))
    preserved = PRESERVES["tevatron" if name == "rlhn" else name]
    lost = Counter({kind: count for kind, count in present.items() if count and kind not in preserved})
    if name == "tevatron-ids":
        lost["texts (they stay in the corpus)"] = len(row.positives) + len(row.negatives)
    if name == "msmarco":
        texts = (row.query, *(p.text for p in (*row.positives, *row.negatives)))
        lost["line breaks and tabs"] = sum(bool(_NOT_IN_TSV.search(t)) for t in texts)
    return +lost


def _passage_information(passage: Passage) -> Counter[str]:
    return Counter(
        {
            "passage ids": int(has_given_id(passage)),
            "titles": int(bool(passage.title)),
            "scores": int(passage.score is not None),
            "columns of passages": len(columns_of(passage)),
        }
    )
