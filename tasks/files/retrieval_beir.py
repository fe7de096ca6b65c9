"""Read and write BEIR folders (`corpus.jsonl`, `queries.jsonl`, `qrels/<split>.tsv`), and read corpora.

The corpus is copied to a temporary SQLite file, so that it need not fit into memory.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson

from schemas.errors import InputError
from schemas.labels import CandidateSet, Passage
from tasks.files.records import BadRows, Record, open_text, read_records, write_records
from tasks.files.retrieval_rows import columns_of, given_id, layout_of, make_passage, make_set, rest_of
from tasks.run.store import write_bytes

ID_NAMES = ("_id", "docid", "id")


class PassageStore:
    """Passages by id, on disk. Iteration yields them in the order of the corpus."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def find(self, passage_id: str) -> Passage | None:
        """Return the passage with an id, or `None`."""
        row = self._database.execute("SELECT record FROM passages WHERE id = ?", (passage_id,)).fetchone()
        return None if row is None else _passage(orjson.loads(row[0]))

    def __iter__(self) -> Iterator[Passage]:
        for (record,) in self._database.execute("SELECT record FROM passages ORDER BY rowid"):
            yield _passage(orjson.loads(record))


@contextmanager
def passage_store(corpus: Path, bad: BadRows) -> Iterator[PassageStore]:
    """Open the passages of a corpus file (`_id` or `docid`, `text`, `title`) for the length of the block."""
    with tempfile.TemporaryDirectory(prefix="counterfoil-corpus-") as folder:
        database = sqlite3.connect(Path(folder) / "corpus.sqlite")
        database.execute("PRAGMA synchronous = OFF")
        database.execute("CREATE TABLE passages (id TEXT PRIMARY KEY, record BLOB)")
        database.executemany("INSERT OR REPLACE INTO passages VALUES (?, ?)", _corpus_rows(corpus, bad))
        try:
            yield PassageStore(database)
        finally:
            database.close()


def read_corpus(corpus: Path, bad: BadRows) -> Iterator[Passage]:
    """Yield every passage of a corpus file, in order."""
    return (_passage(orjson.loads(record)) for _, record in _corpus_rows(corpus, bad))


def _corpus_rows(corpus: Path, bad: BadRows) -> Iterator[tuple[str, bytes]]:
    for placed in read_records(corpus, bad):
        identifier = next((placed.record[name] for name in ID_NAMES if name in placed.record), None)
        if identifier is None or not isinstance(placed.record.get("text"), str):
            bad.report("a passage of the corpus needs `_id` (or `docid`) and `text`", placed.place)
            continue
        yield str(identifier), orjson.dumps(placed.record, default=str)


def _passage(record: Record) -> Passage:
    title = record.get("title")
    name = next(name for name in ID_NAMES if name in record)
    return make_passage(
        record["text"],
        given_id=record[name],
        title=title if isinstance(title, str) else None,
        columns=rest_of(record, (name, "text", "title")),
    )


def read_beir(folder: Path, bad: BadRows) -> Iterator[CandidateSet]:
    """Yield one set per query and qrels file. A score above 0 makes a positive, 0 a negative."""
    queries = {str(r.record.get("_id")): r.record for r in read_records(find_jsonl(folder, "queries"), bad)}
    with passage_store(find_jsonl(folder, "corpus"), bad) as corpus:
        for qrels in _qrels_files(folder):
            for query_id, lines in _by_query(qrels, bad):
                row = _read_set(query_id, lines, queries, corpus, qrels, bad)
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


def _qrels_files(folder: Path) -> list[Path]:
    files = sorted((folder / "qrels").glob("*.tsv"))
    if not files:
        raise InputError("there are no files qrels/*.tsv", place=str(folder), hint="give a BEIR folder")
    return files


def _by_query(qrels: Path, bad: BadRows) -> Iterator[tuple[str, list[tuple[str, float, str]]]]:
    """Yield (query id, [(passage id, score, place)]), queries in the order of their first line."""
    lines_by_query: dict[str, list[tuple[str, float, str]]] = {}
    with open_text(qrels) as stream:
        for number, line in enumerate(stream, start=1):
            fields = line.rstrip("\r\n").split("\t")
            if number == 1 and fields[-1] == "score":
                continue
            try:
                query_id, passage_id, score = fields
                lines = lines_by_query.setdefault(query_id, [])
                lines.append((passage_id, float(score), f"{qrels}:{number}"))
            except ValueError:
                bad.report("expected query-id, corpus-id, score", f"{qrels}:{number}")
    yield from lines_by_query.items()


def _read_set(
    query_id: str,
    lines: list[tuple[str, float, str]],
    queries: dict[str, Record],
    corpus: PassageStore,
    qrels: Path,
    bad: BadRows,
) -> CandidateSet | None:
    query = queries.get(query_id)
    if query is None or not isinstance(query.get("text"), str):
        bad.report(f"there is no query {query_id!r}", lines[0][2])
        return None
    sides: tuple[list[Passage], list[Passage]] = ([], [])
    for passage_id, score, place in lines:
        passage = corpus.find(passage_id)
        if passage is None:
            bad.report(f"the corpus has no passage {passage_id!r}", place)
            continue
        sides[0 if score > 0 else 1].append(passage.model_copy(update={"score": score}))
    return make_set(
        query["text"],
        *sides,
        query_id=query_id,
        columns=rest_of(query, ("_id", "text")),
        layout={"split": qrels.stem},
    )


def write_beir(folder: Path, sets: Callable[[], Iterable[CandidateSet]], source: Path | None) -> int:
    """Write a BEIR folder. Promoted passages get score 1.

    Args:
        folder: The target.
        sets: Called once per pass.
        source: A BEIR folder to copy corpus and queries from. Default: those of the sets are written.

    Returns:
        The number of qrels lines.
    """
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    if source is not None:
        for name in ("corpus", "queries"):
            _copy(find_jsonl(source, name), folder)
    else:
        write_records(folder / "corpus.jsonl", lambda: _corpus_of(sets()))
        write_records(folder / "queries.jsonl", lambda: _queries_of(sets()))
    lines: dict[str, list[str]] = {}
    for row in sets():
        lines.setdefault(layout_of(row).get("split", "train"), []).extend(_qrels_of(row))
    for split, of_split in lines.items():
        text = "\n".join(["query-id\tcorpus-id\tscore", *of_split, ""])
        write_bytes(folder / "qrels" / f"{split}.tsv", text.encode())
    return sum(len(of_split) for of_split in lines.values())


def _copy(file: Path, folder: Path) -> None:
    """Copy a file atomically."""
    if (folder / file.name).exists() and file.samefile(folder / file.name):
        return
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        os.replace(shutil.copyfile(file, Path(temporary) / file.name), folder / file.name)


def _qrels_of(row: CandidateSet) -> Iterator[str]:
    for passage in row.positives:
        score = passage.score if passage.score is not None and passage.score > 0 else 1
        yield f"{row.query_id}\t{given_id(passage)}\t{score:g}"
    for passage in row.negatives:
        yield f"{row.query_id}\t{given_id(passage)}\t0"


def _corpus_of(sets: Iterable[CandidateSet]) -> Iterator[Record]:
    seen = set()
    for row in sets:
        for passage in (*row.positives, *row.negatives):
            if passage.id not in seen:
                seen.add(passage.id)
                yield {"_id": passage.id, "title": passage.title or "", "text": passage.text} | columns_of(
                    passage
                )


def _queries_of(sets: Iterable[CandidateSet]) -> Iterator[Record]:
    seen = set()
    for row in sets:
        if row.query_id not in seen:
            seen.add(row.query_id)
            yield {"_id": row.query_id, "text": row.query} | columns_of(row)
