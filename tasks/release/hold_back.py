"""The private file of a release: questions that are held back, with their answers. It is never part of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.answers import RESPONSES, Response
from schemas.errors import InputError
from schemas.question import QUESTIONS, Question
from schemas.release import HoldBack, Manifest
from schemas.tables import Table, file_hash
from tasks.run.store import TableRef, write_bytes

HELD: Table[Question] = Table("held", Question, "id")
ANSWERS = "responses"
"""The column that has a question's answers."""


def write_hold_back(path: Path, held: Sequence[Question], responses: Iterable[Response]) -> HoldBack | None:
    """The private file: the questions, each with its answers; the same bytes for the same rows. None where
    there is nothing to hold back."""
    if not held:
        return None
    answers: dict[str, list[Response]] = defaultdict(list)
    for r in sorted(responses, key=lambda r: r.id):
        answers[r.question_id].append(r)
    rows = sorted(held, key=lambda q: q.id)
    said = [[r.model_dump() for r in answers[q.id]] for q in rows]
    column = pa.array(said, pa.list_(pa.struct(list(RESPONSES.arrow_schema))))
    sink = pa.BufferOutputStream()
    pq.write_table(QUESTIONS.to_arrow(rows).append_column(ANSWERS, column), sink, compression="zstd")
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_bytes(path, sink.getvalue().to_pybytes())
    return HoldBack(questions=len(rows), sha256=file_hash(path))


def read_hold_back(path: Path) -> tuple[list[Question], list[Response]]:
    """The questions of a private file, and their answers. Raises `InputError` where it is none."""
    try:
        table = pq.read_table(path)
        answers = [Response.model_validate(r) for rows in table[ANSWERS].to_pylist() for r in rows]
        return list(QUESTIONS.from_arrow(table.drop_columns([ANSWERS]))), answers
    except (OSError, KeyError, pa.ArrowInvalid, ValueError) as error:
        raise InputError(
            f"{path.name} is no file of held-back questions",
            place=str(path),
            hint="give <home>/hold_back/<name>/<version>.parquet",
        ) from error


def private_files(folder: Path) -> list[TableRef]:
    """The private files of all versions in a folder, by name."""
    return [
        TableRef(
            table=HELD.name, path=str(path), rows=pq.read_metadata(path).num_rows, sha256=file_hash(path)
        )
        for path in sorted(folder.glob("*.parquet"))
    ]


def private_file(path: Path, manifest: Manifest) -> TableRef:
    """The private file of a release. Raises `InputError` where it is that of another one."""
    questions, _ = read_hold_back(path)
    found = TableRef(table=HELD.name, path=str(path.resolve()), rows=len(questions), sha256=file_hash(path))
    if manifest.hold_back is None or manifest.hold_back.sha256 != found.sha256:
        raise InputError(
            f"{path.name} is not the private file of {manifest.name} {manifest.version}",
            place=str(path),
            hint="its sha256 is in the release's manifest, under `hold_back`",
        )
    return found
