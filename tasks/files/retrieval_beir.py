"""Read and write BEIR folders (`corpus.jsonl`, `queries.jsonl`, `qrels/<split>.tsv`), and read corpora.

Passages, queries and judgements are copied to temporary SQLite files, so that they need not fit into memory.
"""

from __future__ import annotations

import math
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from schemas.errors import InputError
from schemas.labels import CandidateSet, Passage
from schemas.tables import content_id
from tasks.files.records import BadRows, Record, open_text, read_records, write_records
from tasks.files.retrieval_rows import (
    columns_of,
    given_id,
    layout_of,
    make_passage,
    make_set,
    passage_id,
    query_id_of,
    read_title,
    rest_of,
    title_column,
)
from tasks.files.values import decode_value, dump_json, encode_value, parse_json
from tasks.run.store import write_chunks

ID_NAMES = ("_id", "docid", "id")


class PassageStore:
    """Passages by id, on disk. Iteration yields them in the order of the corpus."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def find(self, passage_id: str) -> Passage | None:
        """Return the passage with an id, or `None`."""
        row = self._database.execute("SELECT record FROM records WHERE id = ?", (passage_id,)).fetchone()
        return None if row is None else _passage(_decoded(row[0]))

    def __iter__(self) -> Iterator[Passage]:
        for (record,) in self._database.execute("SELECT record FROM records ORDER BY rowid"):
            yield _passage(_decoded(record))


@contextmanager
def passage_store(corpus: Path, bad: BadRows) -> Iterator[PassageStore]:
    """Open the passages of a corpus file (`_id` or `docid`, `text`, `title`) for the length of the block."""
    with _database() as database:
        _store(database, _corpus_rows(corpus, bad), corpus, bad)
        yield PassageStore(database)


@contextmanager
def _database() -> Iterator[sqlite3.Connection]:
    """Open an empty database for the length of the block."""
    with tempfile.TemporaryDirectory(prefix="counterfoil-corpus-") as folder:
        database = sqlite3.connect(Path(folder) / "rows.sqlite")
        database.execute("PRAGMA synchronous = OFF")
        try:
            yield database
        finally:
            database.close()


def _store(database: sqlite3.Connection, rows: Iterable[tuple[str, bytes]], file: Path, bad: BadRows) -> None:
    """Write records by id to a table. Of a repeated id the last one counts, as in BEIR's own loader."""
    database.execute("CREATE TABLE records (id TEXT PRIMARY KEY, record BLOB)")
    for identifier, record in rows:
        try:
            database.execute("INSERT INTO records VALUES (?, ?)", (identifier, record))
        except sqlite3.IntegrityError:
            bad.repeat(f"{file.name}: {identifier}")
            database.execute("UPDATE records SET record = ? WHERE id = ?", (record, identifier))


def read_corpus(corpus: Path, bad: BadRows) -> Iterator[Passage]:
    """Yield every passage of a corpus file, in order."""
    return (_passage(_decoded(record)) for _, record in _corpus_rows(corpus, bad))


def _corpus_rows(corpus: Path, bad: BadRows) -> Iterator[tuple[str, bytes]]:
    for placed in read_records(corpus, bad):
        identifier = next((placed.record[name] for name in ID_NAMES if name in placed.record), None)
        if identifier is None or not isinstance(placed.record.get("text"), str):
            bad.report("a passage of the corpus needs `_id` (or `docid`) and `text`", placed.place)
            continue
        yield str(identifier), dump_json(encode_value(placed.record))


def _decoded(record: bytes) -> Record:
    decoded: Record = decode_value(parse_json(record))
    return decoded


def _passage(record: Record) -> Passage:
    title, layout = read_title(record["title"]) if "title" in record else (None, {})
    name = next(name for name in ID_NAMES if name in record)
    return make_passage(
        record["text"],
        given_id=record[name],
        title=title,
        columns=rest_of(record, (name, "text", "title")),
        layout=layout,
    )


def read_beir(folder: Path, bad: BadRows, split: str | None = None) -> Iterator[CandidateSet]:
    """Yield one set per query and qrels file. A grade above 0 makes a positive, others a negative."""
    file = find_jsonl(folder, "queries")
    records = (placed.record for placed in read_records(file, bad))
    queries = ((str(record.get("_id")), dump_json(encode_value(record))) for record in records)
    with _database() as database, passage_store(find_jsonl(folder, "corpus"), bad) as corpus:
        _store(database, queries, file, bad)
        for qrels in _qrels_files(folder, split):
            for query_id, lines in _by_query(qrels, bad):
                found = database.execute("SELECT record FROM records WHERE id = ?", (query_id,)).fetchone()
                query = _decoded(found[0]) if found else None
                row = _read_set(query_id, lines, query, corpus, qrels, bad)
                if row is not None:
                    yield row


def find_jsonl(folder: Path, name: str) -> Path:
    """Return the path of `<name>.jsonl`, plain or compressed. Raise `InputError` if there is none."""
    for suffix in (".jsonl", ".jsonl.gz", ".jsonl.zst"):
        if (folder / f"{name}{suffix}").is_file():
            return folder / f"{name}{suffix}"
    raise InputError(
        f"there is no {name}.jsonl",
        place=str(folder),
        hint="a BEIR folder contains corpus, queries and qrels",
    )


def _qrels_files(folder: Path, split: str | None) -> list[Path]:
    files = sorted((folder / "qrels").glob(f"{split or '*'}.tsv"))
    if not files:
        raise InputError(
            f"there is no file qrels/{split or '*'}.tsv", place=str(folder), hint="give a BEIR folder"
        )
    return files


Judged = tuple[str, str, int]
"""Passage id, grade as text, and number of the line in the qrels file."""


def _by_query(qrels: Path, bad: BadRows) -> Iterator[tuple[str, list[Judged]]]:
    """Yield (query id, lines), queries in the order of their first line.

    Lines have three columns (query, passage, grade) or four (TREC: with an unused second one).
    """
    with _database() as database:
        database.execute(
            "CREATE TABLE judged (line INTEGER PRIMARY KEY, query TEXT, passage TEXT, grade TEXT)"
        )
        database.executemany("INSERT INTO judged VALUES (?, ?, ?, ?)", _judged_lines(qrels, bad))
        database.execute("CREATE INDEX by_query ON judged (query)")
        ordered = "SELECT query FROM judged GROUP BY query ORDER BY MIN(line)"
        of_query = "SELECT passage, grade, line FROM judged WHERE query = ? ORDER BY line"
        for (query,) in database.execute(ordered):
            yield query, database.execute(of_query, (query,)).fetchall()


def _judged_lines(qrels: Path, bad: BadRows) -> Iterator[tuple[int, str, str, str]]:
    """Yield number of the line, query id, passage id and grade."""
    with open_text(qrels) as stream:
        for number, line in enumerate(stream, start=1):
            text = line.rstrip("\r\n")
            fields = text.split("\t") if "\t" in text else text.split()
            if not fields or (number == 1 and not _is_grade(fields[-1])):
                continue
            if len(fields) not in (3, 4) or not _is_grade(fields[-1]):
                bad.report("expected query-id, corpus-id, score", f"{qrels}:{number}")
                continue
            yield number, fields[0], fields[-2], fields[-1]


def _is_grade(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _has_trec_columns(qrels: Path) -> bool:
    with open_text(qrels) as stream:
        text = stream.readline().rstrip("\r\n")
    return len(text.split("\t") if "\t" in text else text.split()) == 4


def _read_set(
    query_id: str,
    lines: Sequence[Judged],
    query: Record | None,
    corpus: PassageStore,
    qrels: Path,
    bad: BadRows,
) -> CandidateSet | None:
    if query is None or not isinstance(query.get("text"), str):
        bad.report(f"there is no query {query_id!r}", f"{qrels}:{lines[0][2]}")
        return None
    sides: tuple[list[Passage], list[Passage]] = ([], [])
    for passage_id_, grade, number in lines:
        passage = corpus.find(passage_id_)
        if passage is None:
            bad.report(f"the corpus has no passage {passage_id_!r}", f"{qrels}:{number}")
            continue
        sides[0 if float(grade) > 0 else 1].append(_graded(passage, grade, number))
    return make_set(
        query["text"],
        *sides,
        query_id=query_id,
        columns=rest_of(query, ("_id", "text")),
        layout={"split": qrels.stem},
    )


def _graded(passage: Passage, grade: str, line: int) -> Passage:
    extra = parse_json(passage.extra.encode())
    extra["_layout"] = extra.get("_layout", {}) | {"grade": grade, "line": line}
    return passage.model_copy(
        update={"score": float(grade), "extra": dump_json(extra, sort_keys=True).decode()}
    )


def write_beir(folder: Path, sets: Callable[[], Iterable[CandidateSet]], source: Path | None) -> int:
    """Write a BEIR folder. Promoted passages get grade 1, others keep theirs.

    Args:
        folder: The target.
        sets: Called once per pass.
        source: A BEIR folder to copy corpus and queries from. Default: those of the sets are written.

    Returns:
        The number of qrels lines.
    """
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    ids = _Ids(keep_all=source is not None)
    if source is not None:
        for name in ("corpus", "queries"):
            _copy(find_jsonl(source, name), folder)
    else:
        write_records(folder / "corpus.jsonl", lambda: _corpus_of(sets(), ids))
        write_records(folder / "queries.jsonl", lambda: _queries_of(sets(), ids))
    lines = (
        (layout_of(row).get("split", "train"), position, text)
        for row in sets()
        for position, text in _qrels_of(row, ids)
    )
    with _database() as database:
        database.execute("CREATE TABLE lines (split TEXT, position REAL, text TEXT)")
        database.executemany("INSERT INTO lines VALUES (?, ?, ?)", lines)
        splits = database.execute("SELECT split, COUNT(*) FROM lines GROUP BY split").fetchall()
        in_order = "SELECT text FROM lines WHERE split = ? ORDER BY position, rowid"
        for split, _ in splits:
            in_trec = source is not None and _has_trec_columns(source / "qrels" / f"{split}.tsv")
            texts = (text for (text,) in database.execute(in_order, (split,)))
            if in_trec:
                texts = (text.replace("\t", "\t0\t", 1) for text in texts)
            header = [] if in_trec else ["query-id\tcorpus-id\tscore"]
            written = (f"{text}\n".encode() for text in chain(header, texts))
            write_chunks(folder / "qrels" / f"{split}.tsv", written)
    return sum(count for _, count in splits)


class _Ids:
    """Ids of a written corpus. A text gets a hash as its id if another text has the given one."""

    def __init__(self, keep_all: bool = False) -> None:
        self._keep_all = keep_all
        self._texts: dict[str, int] = {}

    def of_passage(self, passage: Passage) -> str:
        return self._id(str(given_id(passage)), passage_id(passage.text, passage.title))

    def of_query(self, row: CandidateSet) -> str:
        return self._id(str(query_id_of(row)), content_id("query", row.query))

    def _id(self, given: str, by_text: str) -> str:
        if self._keep_all:
            return given
        is_free = self._texts.setdefault(given, hash(by_text)) == hash(by_text)
        return given if given.strip() and "\t" not in given and is_free else by_text


def _copy(file: Path, folder: Path) -> None:
    """Copy a file atomically."""
    if (folder / file.name).exists() and file.samefile(folder / file.name):
        return
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        os.replace(shutil.copyfile(file, Path(temporary) / file.name), folder / file.name)


def _qrels_of(row: CandidateSet, ids: _Ids) -> Iterator[tuple[float, str]]:
    """Yield the lines with their position in the input. Lines of other passages come last."""
    query_id = ids.of_query(row)
    for passage, is_positive in [(p, True) for p in row.positives] + [(n, False) for n in row.negatives]:
        layout = layout_of(passage)
        grade = layout.get("grade", "1" if is_positive else "0")
        if (float(grade) > 0) != is_positive:
            grade = "1" if is_positive else "0"
        yield layout.get("line", math.inf), f"{query_id}\t{ids.of_passage(passage)}\t{grade}"


def _corpus_of(sets: Iterable[CandidateSet], ids: _Ids) -> Iterator[Record]:
    seen = set()
    for row in sets:
        for passage in (*row.positives, *row.negatives):
            identifier = ids.of_passage(passage)
            if identifier not in seen:
                seen.add(identifier)
                title: dict[str, Any] = title_column(passage, default={"title": ""})
                yield {"_id": identifier} | title | {"text": passage.text} | columns_of(passage)


def _queries_of(sets: Iterable[CandidateSet], ids: _Ids) -> Iterator[Record]:
    seen = set()
    for row in sets:
        identifier = ids.of_query(row)
        if identifier not in seen:
            seen.add(identifier)
            yield {"_id": identifier, "text": row.query} | columns_of(row)
