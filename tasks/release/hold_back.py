"""The private file of a release: held-back questions and their answers, which are never published."""

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
from tasks.files.bounded import read_parquet
from tasks.run.store import TableRef, write_bytes

HELD: Table[Question] = Table("held", Question, "id")
ANSWERS_COLUMN = "responses"
"""Column with the answers to a question."""
GHOST = "ghost"
"""Operator of a question that was made for the private file only."""


def is_ghost(question: Question) -> bool:
    """Return whether a question was made for the private file only. It was never asked."""
    return question.operator == GHOST


def read_ghosts(path: Path) -> list[Question]:
    """Return the ghosts of a private file."""
    return [question for question in read_hold_back(path)[0] if is_ghost(question)]


def write_hold_back(path: Path, held: Sequence[Question], responses: Iterable[Response]) -> HoldBack | None:
    """Write the held-back questions with their answers. Equal rows give equal bytes.

    Returns:
        The entry of the manifest, or `None` if nothing is held back.
    """
    if not held:
        return None
    answers: dict[str, list[Response]] = defaultdict(list)
    for r in sorted(responses, key=lambda r: r.id):
        answers[r.question_id].append(r)
    rows = sorted(held, key=lambda q: q.id)
    records = [[r.model_dump() for r in answers[q.id]] for q in rows]
    column = pa.array(records, pa.list_(pa.struct(list(RESPONSES.arrow_schema))))
    sink = pa.BufferOutputStream()
    pq.write_table(QUESTIONS.to_arrow(rows).append_column(ANSWERS_COLUMN, column), sink, compression="zstd")
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_bytes(path, sink.getvalue().to_pybytes())
    ghosts = sum(map(is_ghost, rows))
    return HoldBack(questions=len(rows) - ghosts, sha256=file_hash(path), ghosts=ghosts or None)


def read_hold_back(path: Path) -> tuple[list[Question], list[Response]]:
    """Return the questions of a private file and their answers.

    Raises:
        InputError: If it is not a private file.
    """
    try:
        table = read_parquet(path)
        answers = [Response.model_validate(r) for rows in table[ANSWERS_COLUMN].to_pylist() for r in rows]
        return list(QUESTIONS.from_arrow(table.drop_columns([ANSWERS_COLUMN]))), answers
    except (OSError, KeyError, pa.ArrowInvalid, ValueError) as error:
        raise InputError(
            f"{path.name} is not a file of held-back questions",
            place=str(path),
            hint="give <home>/hold_back/<name>/<version>.parquet",
        ) from error


def list_private_files(folder: Path) -> list[TableRef]:
    """Return the private files of all versions in a folder, sorted by name."""
    return [
        TableRef(
            table=HELD.name, path=str(path), rows=pq.read_metadata(path).num_rows, sha256=file_hash(path)
        )
        for path in sorted(folder.glob("*.parquet"))
    ]


def check_private_file(path: Path, manifest: Manifest) -> TableRef:
    """Return a reference to the private file of a release.

    Raises:
        InputError: If it is the private file of another release.
    """
    questions, _ = read_hold_back(path)
    ref = TableRef(table=HELD.name, path=str(path.resolve()), rows=len(questions), sha256=file_hash(path))
    if manifest.hold_back is None or manifest.hold_back.sha256 != ref.sha256:
        raise InputError(
            f"{path.name} is not the private file of {manifest.name} {manifest.version}",
            place=str(path),
            hint="the manifest has the sha256 of the right file under `hold_back`",
        )
    return ref
