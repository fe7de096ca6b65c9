"""Question files that a recipe reads in: CAB's rows, or the questions of a release."""

from __future__ import annotations

from pathlib import Path

from schemas.errors import InputError
from schemas.question import QUESTIONS, Question
from schemas.recipe import QuestionFile
from tasks.formats.cab import COLUMNS, is_cab, read_cab
from tasks.formats.table_file import read_table_file

FORMATS = ("auto", "cab", "questions")


def read_question_file(file: QuestionFile, data_dir: Path) -> list[Question]:
    """Its questions, as if nothing had been found out about them yet. Raises `InputError`."""
    if file.format not in FORMATS:
        raise InputError(
            f"there is no question format {file.format!r}",
            place=file.path,
            hint=f"there are: {', '.join(FORMATS)}",
        )
    path = Path(file.path)
    columns = read_table_file(path).column_names
    if file.format == "cab" or (file.format == "auto" and is_cab(columns)):
        return read_cab(path, data_dir, last_words=file.last_words)
    if {"template", "values", "variants"} <= set(columns):
        return _read_questions(path)
    raise InputError(
        f"{path.name} holds no questions that can be read",
        place=str(path),
        hint=f"CAB's rows have the columns {', '.join(COLUMNS)}; or name the questions of a release",
    )


def _read_questions(path: Path) -> list[Question]:
    """Questions of a release that are no controls; a build makes its own."""
    table = read_table_file(path)
    known = [name for name in QUESTIONS.arrow_schema.names if name in table.column_names]
    try:
        rows = [Question.model_validate(record) for record in table.select(known).to_pylist()]
    except ValueError as error:
        raise InputError(f"not a table of questions: {str(error).splitlines()[0]}", place=str(path)) from None
    kept = [q for q in rows if q.control == "none" and q.family == "open"]
    ids = {q.id for q in kept}
    return [
        q.model_copy(
            update={
                "origin": "imported",
                "operator": None,
                "parent_id": None,
                "twin_id": q.twin_id if q.twin_id in ids else None,
                "round": 0,
                "label": "unlabelled",
                "fitness": None,
                "holdout_effect": None,
            }
        )
        for q in kept
    ]
