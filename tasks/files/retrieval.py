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
    """A retrieval set to read."""

    path: Path
    format: str
    corpus: Path | None = None
    """Passages of `tevatron-ids`. Default: `corpus.jsonl` in the same folder."""
    relevant: Mapping[tuple[str, str], int] | None = None
    """Grades by (query id, passage id). Candidates of RankLLM requests with a grade above 0 are positives."""


def detect_format(path: Path) -> str:
    """Return the format of a file or folder, by its name and first record. Raise `InputError` if unknown."""
    if path.is_dir() and any(path.glob("corpus.jsonl*")) and (path / "qrels").is_dir():
        return "beir"
    if path.is_file() and container_of(path) == "tsv":
        return "msmarco"
    first = next(iter(read_records(path, BadRows(skip=True))), None)
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
    if isinstance(record.get("labels"), list):
        return "labeled-list"
    if "label" in record:
        return "labeled-pair"
    if columns := negative_columns(record):
        return "triplet" if columns == ["negative"] else "n-tuple"
    return None


def check_format(name: str) -> str:
    """Return the name of a format. Raise `InputError` with the known names if it is unknown."""
    if name not in FORMATS:
        raise InputError(f"there is no format {name!r}", hint=f"known formats: {', '.join(FORMATS)}")
    return name


def read_candidate_sets(source: Source, bad: BadRows) -> Iterator[CandidateSet]:
    """Yield the candidate sets of a file one at a time. Invalid rows are reported to `bad`."""
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
    """Write candidate sets atomically.

    Args:
        path: File, or folder for BEIR.
        name: The format.
        sets: Called once per pass.
        source: The input. A BEIR input lends its corpus and queries to a BEIR output.

    Returns:
        The number of records.
    """
    check_target(path, name)
    if name == "beir":
        return write_beir(path, sets, source.path if source and source.format == "beir" else None)
    write = WRITERS[name]
    return write_records(path, lambda: (record for row in sets() for record in write(row)))


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
_NOT_IN_TSV = re.compile(r"[\t\r\n]|\s\s|^\s|\s$")


def losses_of(row: CandidateSet, name: str) -> Counter[str]:
    """Count the ids, titles, scores, columns, rows and line breaks of a row that a format loses."""
    if name in _NEEDS_NEGATIVES and not (row.negatives and row.positives):
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
        lost["line breaks, tabs and runs of spaces"] = sum(bool(_NOT_IN_TSV.search(t)) for t in texts)
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
