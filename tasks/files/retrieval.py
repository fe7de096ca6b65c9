"""Retrieval training sets, in and out, in the formats that people train with.

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
from pathlib import Path

from schemas.errors import InputError
from schemas.labels import CandidateSet, Passage
from tasks.files.records import BadRows, LocatedRecord, Record, container_of, read_records, write_records
from tasks.files.retrieval_beir import find_jsonl, passage_store, read_beir, write_beir
from tasks.files.retrieval_pairs import (
    negative_columns,
    read_labeled_list,
    read_labeled_pairs,
    read_n_tuple,
    read_triplets,
    write_labeled_list,
    write_labeled_pairs,
    write_n_tuple,
    write_triplets,
)
from tasks.files.retrieval_rows import (
    BadRecordError,
    columns_of,
    has_given_id,
    has_given_query_id,
    rankllm_reader,
    read_flagembedding,
    read_tevatron,
    tevatron_id_reader,
    write_flagembedding,
    write_rankllm,
    write_tevatron,
    write_tevatron_ids,
)

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
    "msmarco": write_triplets,
}
FORMATS = (*WRITERS, "beir")


@dataclass(frozen=True)
class Source:
    """A retrieval set to read: where it is, what it is, and what it may need beside it."""

    path: Path
    format: str
    corpus: Path | None = None
    """Where `tevatron-ids` finds its passages; default: `corpus.jsonl` in the same folder."""
    relevant: Mapping[tuple[str, str], int] | None = None
    """Which candidates of a RankLLM request are positives: grade by (query id, passage id)."""


def detect_format(path: Path) -> str:
    """Which format a file or folder is in, by its name and its first record."""
    if path.is_dir() and any(path.glob("corpus.jsonl*")) and (path / "qrels").is_dir():
        return "beir"
    if path.is_file() and container_of(path) == "tsv":
        return "msmarco"
    first = next(iter(read_records(path, BadRows(skip=True))), None)
    if first is None:
        raise InputError("there is no row in it", place=str(path), hint="name the format, if it is meant so")
    found = format_of(first.record)
    if found is None:
        raise InputError(
            f"cannot tell the format from the columns {', '.join(first.record)}",
            place=first.place,
            hint=f"name it; there are: {', '.join(FORMATS)}",
        )
    return found


def format_of(record: Record) -> str | None:
    """The format that a record's columns speak of."""
    if "pos" in record and "query" in record:
        return "flagembedding"
    if "positive_passages" in record:
        return "rlhn" if "subset" in record else "tevatron"
    if "positive_document_ids" in record:
        return "tevatron-ids"
    if "candidates" in record and isinstance(record.get("query"), dict):
        return "rankllm"
    if isinstance(record.get("labels"), list):
        return "labeled-list"
    if "label" in record:
        return "labeled-pair"
    if columns := negative_columns(record):
        return "triplet" if columns == ["negative"] else "n-tuple"
    return None


def check_format(name: str) -> str:
    """The name, or `InputError` with those that there are."""
    if name not in FORMATS:
        raise InputError(f"there is no format {name!r}", hint=f"there are: {', '.join(FORMATS)}")
    return name


def read_candidate_sets(source: Source, bad: BadRows) -> Iterator[CandidateSet]:
    """Every candidate set of a file, one at a time. What cannot be read goes to `bad`."""
    if check_format(source.format) == "beir":
        yield from read_beir(source.path, bad)
        return
    records = read_records(source.path, bad)
    match source.format:
        case "triplet" | "msmarco":
            yield from read_triplets(records, bad)
        case "labeled-pair":
            yield from read_labeled_pairs(records, bad)
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


def write_candidate_sets(
    path: Path, name: str, sets: Callable[[], Iterable[CandidateSet]], source: Source | None = None
) -> int:
    """Write all sets, whole or not at all; returns how many records. `sets` is called once for every pass."""
    check_target(path, name)
    if name == "beir":
        return write_beir(path, sets, source.path if source and source.format == "beir" else None)
    write = WRITERS[name]
    return write_records(path, lambda: (record for row in sets() for record in write(row)))


def check_target(path: Path, name: str) -> None:
    """`InputError` where a format cannot be written to a file of that name."""
    if check_format(name) != "beir" and (container_of(path) == "tsv") != (name == "msmarco"):
        raise InputError(
            f"{name} cannot be written to {path.name}",
            hint="msmarco goes to .tsv, everything else to .jsonl or .parquet",
        )


# What a format cannot hold: counted while a set is written in another one, so that nothing goes unsaid.


HOLDS: Mapping[str, frozenset[str]] = {
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
"""What a format has room for, beside the texts and which of them answer. (`rlhn` is `tevatron`.)"""

_NEEDS_NEGATIVES = ("triplet", "n-tuple", "msmarco")
_NOT_IN_TSV = re.compile(r"[\t\r\n]|\s\s|^\s|\s$")


def losses_of(row: CandidateSet, name: str) -> Counter[str]:
    """What of a row is lost in a format: so many ids, titles, scores, columns, rows, line breaks."""
    if name in _NEEDS_NEGATIVES and not (row.negatives and row.positives):
        return Counter({"rows without a positive or a negative": 1})
    found = Counter(
        {
            "query ids": int(has_given_query_id(row)),
            "columns of rows": len(columns_of(row)),
        }
    )
    for passage in (*row.positives, *row.negatives):
        found.update(_things_of(passage))
    held = HOLDS["tevatron" if name == "rlhn" else name]
    lost = Counter({thing: count for thing, count in found.items() if count and thing not in held})
    if name == "tevatron-ids":
        lost["texts (they stay in the corpus)"] = len(row.positives) + len(row.negatives)
    if name == "msmarco":
        texts = (row.query, *(p.text for p in (*row.positives, *row.negatives)))
        lost["line breaks, tabs and runs of spaces"] = sum(bool(_NOT_IN_TSV.search(t)) for t in texts)
    return +lost


def _things_of(passage: Passage) -> Counter[str]:
    return Counter(
        {
            "passage ids": int(has_given_id(passage)),
            "titles": int(bool(passage.title)),
            "scores": int(passage.score is not None),
            "columns of passages": len(columns_of(passage)),
        }
    )
