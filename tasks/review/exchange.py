"""Exchange reviews with other tools: CSV, Label Studio and Argilla.

An import only appends. A verdict that the reviewer has given before is not repeated, so importing an old file
does not revert later decisions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal
from uuid import NAMESPACE_URL, uuid5

from pydantic import ValidationError

from schemas.errors import InputError
from schemas.labels import Act, ReviewEvent
from schemas.tables import Row, canonical_json, content_id
from tasks.files.depth import read_json
from tasks.files.tables import read_csv_rows, write_csv
from tasks.review.answer_sample import check_scores
from tasks.review.events import VERDICTS, CurrentVerdicts, Subject, reviewer_name, subject_of
from tasks.run.store import write_bytes
from tasks.text.printable import printable

EDIT = "edit"
"""Takes the place of a verdict if the reviewer rewords the question."""


class ExchangeItem(Row):
    """A subject as other tools display it."""

    subject: Literal["question", "passage", "answers"]
    subject_id: str
    query_id: str = ""
    text: str
    """The template of the question, the passage, or the answers by version."""
    context: str = ""
    """The variants, one per line, the query, or the question with its versions masked."""
    order: tuple[int, ...] = ()
    """For answers: variant indices in the order shown."""
    about: Mapping[str, str] = {}
    """Properties to filter by, such as attribute, domain or label."""

    @property
    def key(self) -> Subject:
        """The subject's key in the review events."""
        return self.subject, self.subject_id, self.query_id


class ExchangedVerdict(Row):
    """One reviewer's verdict on one subject in an exchanged file."""

    reviewer: str
    verdict: str
    """A verdict, or `edit`."""
    note: str = ""
    template: str = ""
    """The new text of an edit."""
    scores: str = ""
    """For answers: the score of each version in the order shown, such as `3 2`."""


class ExchangeRow(Row):
    """One verdict read from a file."""

    subject: Subject
    given: ExchangedVerdict
    place: str


CheckWording = Callable[[str, str], tuple[str, str]]
"""(question id, new text) → the normalised text and the id of the new question. Raises `InputError` if the
text is not a valid question."""


def exchanged_verdicts(verdicts: CurrentVerdicts, item: ExchangeItem) -> list[ExchangedVerdict]:
    """Return the current verdicts on a subject, sorted by reviewer."""
    given = sorted(verdicts.get(item.key, {}).items())
    return [_exchanged(name, event, item.order) for name, event in given]


def _exchanged(reviewer: str, event: ReviewEvent, order: Sequence[int]) -> ExchangedVerdict:
    verdict = EDIT if event.action == "edit" else event.verdict or ""
    return ExchangedVerdict(
        reviewer=reviewer,
        verdict=verdict,
        note=event.note,
        template=event.template or "",
        scores=" ".join(str(event.scores[version]) for version in order) if event.scores else "",
    )


def new_acts(
    rows: Iterable[ExchangeRow],
    items: Sequence[ExchangeItem],
    events: Mapping[str, Iterable[ReviewEvent]],
    check: CheckWording,
) -> dict[str, list[Act]]:
    """Return the acts in a file that are not among the events yet, by reviewer.

    Args:
        rows: Verdicts read from the file.
        items: Subjects that can be reviewed.
        events: Existing events by reviewer.
        check: Validates new wordings.

    Raises:
        InputError: If a row has an unknown subject, an invalid verdict or an invalid wording. Nothing should
            be stored then.
    """
    known = {item.key: item for item in items}
    before = {
        (name, subject_of(e), e.verdict, e.template, e.note, e.scores)
        for name, own in events.items()
        for e in own
    }
    acts: dict[str, list[Act]] = {}
    for row in rows:
        if row.subject not in known:
            raise InputError(
                f"unknown {printable(row.subject[0], 40)} {row.subject[1]!r}",
                place=row.place,
                hint="import into the run or release that the file was exported from",
            )
        act = _edit(row, check) if row.given.verdict == EDIT else _verdict(row, known[row.subject].order)
        name = reviewer_name(row.given.reviewer)
        if (name, row.subject, act.verdict, act.template, act.note, act.scores) not in before:
            acts.setdefault(name, []).append(act)
    return acts


def _edit(row: ExchangeRow, check: CheckWording) -> Act:
    kind, subject_id, _ = row.subject
    try:
        if kind != "question":
            raise InputError("only questions can be reworded")
        template, question_id = check(subject_id, row.given.template)
    except InputError as error:
        raise InputError(error.message, place=row.place, hint=error.hint) from None
    return Act.model_validate(
        {**_about(row), "action": "edit", "template": template, "replaced_by": question_id}
    )


def _verdict(row: ExchangeRow, order: Sequence[int]) -> Act:
    kind = row.subject[0]
    if row.given.verdict not in VERDICTS.get(kind, ()):
        raise InputError(
            f"{row.given.verdict!r} is not a valid verdict for a {kind}",
            place=row.place,
            hint=f"use one of: {', '.join(verdict_choices(kind))}",
        )
    scores = _scores(row, order) if kind == "answers" else ()
    return Act.model_validate(
        {**_about(row), "action": "verdict", "verdict": row.given.verdict, "scores": scores}
    )


def _scores(row: ExchangeRow, order: Sequence[int]) -> tuple[int, ...]:
    """Return the scores of a row by variant. They are written in the order in which versions are shown."""
    try:
        shown = tuple(int(score) for score in row.given.scores.replace(",", " ").split())
    except ValueError:
        raise InputError(
            f"{row.given.scores!r} are not scores", place=row.place, hint="write one per version, such as 3 2"
        ) from None
    try:
        scores = check_scores(row.given.verdict, shown, len(order))
    except InputError as error:
        raise InputError(error.message, place=row.place, hint=error.hint) from None
    by_variant = dict(zip(order, scores, strict=False))
    return tuple(by_variant[version] for version in sorted(by_variant))


def _about(row: ExchangeRow) -> dict[str, str]:
    kind, subject_id, query_id = row.subject
    return {"subject": kind, "subject_id": subject_id, "query_id": query_id, "note": row.given.note.strip()}


def verdict_choices(kind: str) -> tuple[str, ...]:
    """Return the verdicts that a subject of this kind may get, with `edit` for questions."""
    return (*VERDICTS[kind], EDIT) if kind == "question" else VERDICTS[kind]


def read_json_objects(path: Path) -> list[dict[str, Any]]:
    """Read a file with one JSON list of objects.

    Raises:
        InputError: If the file contains anything else.
    """
    try:
        objects = read_json(path)
    except (OSError, ValueError) as error:
        raise InputError(f"the file is not valid JSON: {error}", place=str(path)) from None
    if not isinstance(objects, list) or not all(isinstance(row, dict) for row in objects):
        raise InputError("the file must contain one JSON list of objects", place=str(path))
    return objects


def parse_row(place: str, subject: Mapping[str, Any], given: Mapping[str, Any]) -> ExchangeRow:
    """Validate one verdict of a file.

    Raises:
        InputError: If a field is missing or has the wrong type.
    """
    try:
        return ExchangeRow(
            subject=(str(subject["subject"]), str(subject["subject_id"]), str(subject.get("query_id") or "")),
            given=ExchangedVerdict.model_validate(given),
            place=place,
        )
    except KeyError as error:
        raise InputError(f"the entry has no {error.args[0]!r}", place=place) from None
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{first['loc'][0]}: {first['msg']}", place=place) from None


# CSV: one row per subject and reviewer, and an empty row for a subject without verdicts.


SHEET_COLUMNS = ("subject", "subject_id", "query_id", "text", "context", "about")
REVIEWER_COLUMNS = ("reviewer", "verdict", "note", "new_text", "scores")
"""Columns for reviewers to fill in."""


def write_review_sheet(path: Path, items: Iterable[ExchangeItem], verdicts: CurrentVerdicts) -> None:
    """Write the subjects and verdicts as CSV. Cells that spreadsheets would run as formulas are escaped."""
    rows = []
    for item in items:
        about = "; ".join(f"{name}: {value}" for name, value in item.about.items())
        fixed = {**item.model_dump(include=set(SHEET_COLUMNS)), "about": about}
        filled = [
            {
                "reviewer": v.reviewer,
                "verdict": v.verdict,
                "note": v.note,
                "new_text": v.template,
                "scores": v.scores,
            }
            for v in exchanged_verdicts(verdicts, item)
        ]
        rows += [{**fixed, **cells} for cells in filled or [dict.fromkeys(REVIEWER_COLUMNS, "")]]
    write_csv(path, (*SHEET_COLUMNS, *REVIEWER_COLUMNS), rows)


def read_review_sheet(path: Path) -> list[ExchangeRow]:
    """Read all rows with a verdict.

    Raises:
        InputError: If the file is not readable, or a verdict has no reviewer.
    """
    rows = read_csv_rows(path, escaped=True)
    return [_parse_sheet_row(place, row) for place, row in rows if row.get("verdict")]


def _parse_sheet_row(place: str, row: dict[str, str]) -> ExchangeRow:
    if not row.get("reviewer", "").strip():
        raise InputError("a verdict has no reviewer", place=place, hint="fill in the column `reviewer`")
    given = {name: row.get(name) or "" for name in ("reviewer", "verdict", "note", "scores")}
    return parse_row(place, row, {**given, "template": row.get("new_text", "")})


# Label Studio tasks, see https://labelstud.io/guide/task_format.
#
# The matching labeling configuration is data/review/label_studio.xml. Label Studio attributes annotations to
# the importing user, so the text field `reviewer` holds the name of the reviewer.


LABEL_STUDIO_CONFIG = "review/label_studio.xml"
LABEL_STUDIO_FIELDS = {"reviewer": "reviewer", "note": "note", "new_text": "template", "scores": "scores"}
"""Text fields of the configuration and the fields they fill."""


def write_label_studio(path: Path, items: Iterable[ExchangeItem], verdicts: CurrentVerdicts) -> None:
    """Write one task per subject, with the current verdicts as annotations."""
    tasks: list[dict[str, Any]] = [
        {
            "data": {
                **item.model_dump(exclude={"about", "order"}),
                "about": "; ".join(f"{name}: {value}" for name, value in item.about.items()),
                "choices": [{"value": choice} for choice in verdict_choices(item.subject)],
            },
            "annotations": [_annotation(given) for given in exchanged_verdicts(verdicts, item)],
        }
        for item in items
    ]
    write_bytes(path, canonical_json(tasks).encode() + b"\n")


def _annotation(given: ExchangedVerdict) -> dict[str, Any]:
    texts = [
        _region(field, "textarea", {"text": [text]})
        for field, name in LABEL_STUDIO_FIELDS.items()
        if (text := getattr(given, name))
    ]
    choice = _region("verdict", "choices", {"choices": [given.verdict]})
    return {"result": [choice, *texts], "was_cancelled": False, "ground_truth": False}


def _region(field: str, kind: str, value: dict[str, Any]) -> dict[str, Any]:
    return {"from_name": field, "to_name": "text", "type": kind, "value": value, "origin": "manual"}


def read_label_studio(path: Path) -> list[ExchangeRow]:
    """Read all annotations with a verdict, oldest first within a task. Skipped annotations are ignored."""
    rows = []
    for number, task in enumerate(read_json_objects(path), start=1):
        place, data = f"{path}, task {number}", task.get("data")
        for annotation in _oldest_first(task.get("annotations"), place):
            values = _field_values(annotation, place)
            if not annotation.get("was_cancelled") and values.get("verdict"):
                given = {
                    "reviewer": values.get("reviewer") or _completed_by(annotation, place),
                    "verdict": values["verdict"],
                    "note": values.get("note", ""),
                    "template": values.get("new_text", ""),
                    "scores": values.get("scores", ""),
                }
                rows.append(parse_row(place, data if isinstance(data, dict) else {}, given))
    return rows


def _not_label_studio(place: str) -> InputError:
    return InputError("the annotation is not in Label Studio's format", place=place)


def _oldest_first(annotations: Any, place: str) -> Sequence[dict[str, Any]]:
    if not isinstance(annotations, (list, type(None))):
        raise _not_label_studio(place)
    objects = [a for a in annotations or () if isinstance(a, dict)]
    return sorted(objects, key=lambda a: str(a.get("created_at") or ""))


def _field_values(annotation: Mapping[str, Any], place: str) -> dict[str, str]:
    values = {}
    result = annotation.get("result") or []
    if not isinstance(result, list):
        raise _not_label_studio(place)
    for region in result:
        try:
            value = region["value"]
            texts = value.get("choices") or value.get("text") or ()
            values[region["from_name"]] = "\n".join([texts] if isinstance(texts, str) else texts)
        except (KeyError, TypeError, AttributeError):
            raise _not_label_studio(place) from None
    return values


def _completed_by(annotation: Mapping[str, Any], place: str) -> str:
    """Return the Label Studio user from an id or an object."""
    user = annotation.get("completed_by")
    if isinstance(user, dict):
        user = user.get("email") or user.get("id")
    if not user:
        raise InputError("the annotation has no reviewer", place=place, hint="fill in the field `reviewer`")
    return f"Label Studio user {user}" if isinstance(user, int) else str(user)


# Argilla 2: files that `dataset.records.to_json` writes and `from_json` reads.
#
# The matching dataset settings are in data/review/argilla.json. Argilla identifies users by UUID. The UUID of
# a reviewer is derived from the name, so known names can be restored.


ARGILLA_SETTINGS = "review/argilla.json"
ARGILLA_QUESTIONS = {"verdict": "verdict", "note": "note", "new_text": "template", "scores": "scores"}
"""Questions of the settings and the fields they fill."""


def argilla_user_id(reviewer: str) -> str:
    """Return the UUID of a reviewer."""
    return str(uuid5(NAMESPACE_URL, f"counterfoil:reviewer:{reviewer}"))


def write_argilla(path: Path, items: Iterable[ExchangeItem], verdicts: CurrentVerdicts) -> None:
    """Write one record per subject, with the current verdicts as responses."""
    records = [
        {
            "id": content_id("s", list(item.key)),
            "fields": {"text": item.text, "context": item.context or "–"},
            "metadata": {**item.about, **item.model_dump(include={"subject", "subject_id", "query_id"})},
            "suggestions": {},
            "responses": _responses(exchanged_verdicts(verdicts, item)),
            "vectors": {},
        }
        for item in items
    ]
    write_bytes(path, canonical_json(records).encode() + b"\n")


def _responses(given: Iterable[ExchangedVerdict]) -> dict[str, list[dict[str, str]]]:
    responses: dict[str, list[dict[str, str]]] = {}
    for verdict in given:
        user = argilla_user_id(verdict.reviewer)
        for question, name in ARGILLA_QUESTIONS.items():
            if value := getattr(verdict, name):
                response = {"value": value, "user_id": user, "status": "submitted"}
                responses.setdefault(question, []).append(response)
    return responses


def read_argilla(path: Path, reviewers: Iterable[str]) -> list[ExchangeRow]:
    """Read all submitted verdicts.

    Args:
        path: The exported records.
        reviewers: Names of known reviewers.
    """
    names = {argilla_user_id(name): name for name in reviewers}
    rows = []
    for number, record in enumerate(read_json_objects(path), start=1):
        place, metadata = f"{path}, record {number}", record.get("metadata")
        for user, answers in _answers_by_user(record, place).items():
            if answers.get("verdict"):
                given = {
                    "reviewer": names.get(user, f"Argilla user {user}"),
                    "verdict": answers["verdict"],
                    "note": answers.get("note", ""),
                    "template": answers.get("new_text", ""),
                    "scores": answers.get("scores", ""),
                }
                rows.append(parse_row(place, metadata if isinstance(metadata, dict) else {}, given))
    return rows


def _answers_by_user(record: Mapping[str, Any], place: str) -> dict[str, dict[str, str]]:
    """Return the submitted answers by user and question, without drafts and discarded ones."""
    answers: dict[str, dict[str, str]] = {}
    try:
        for question, responses in (record.get("responses") or {}).items():
            for response in responses:
                if response.get("status") in (None, "submitted"):
                    answers.setdefault(str(response["user_id"]), {})[question] = str(response["value"])
    except (KeyError, TypeError, AttributeError):
        raise InputError("the responses are not in Argilla's format", place=place) from None
    return answers
