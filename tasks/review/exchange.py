"""Reviews to and from other tools: what is exported, and how what comes back becomes events.

Importing appends. What a reviewer has said of a subject before is not said again, so that an old file takes
nothing back that was decided since.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args
from uuid import NAMESPACE_URL, uuid5

from pydantic import ValidationError

from schemas.errors import InputError
from schemas.labels import Act, PassageVerdict, QuestionVerdict, ReviewEvent
from schemas.tables import Row, canonical_json, content_id
from tasks.files.tables import read_csv_rows, write_csv
from tasks.review.events import Subject, CurrentVerdicts, reviewer_name, subject_of
from tasks.run.store import write_bytes

VERDICTS: Mapping[str, tuple[str, ...]] = {
    "question": get_args(QuestionVerdict),
    "passage": get_args(PassageVerdict),
}
EDIT = "edit"
"""Stands for a verdict where a reviewer wants another text."""


class ExchangeItem(Row):
    """A subject as other tools show it."""

    subject: Literal["question", "passage"]
    subject_id: str
    query_id: str = ""
    text: str
    """The question's template, or the passage."""
    context: str = ""
    """The variants one below the other, or the query."""
    about: Mapping[str, str] = {}
    """What it is filtered by: attribute, domain, label, …"""

    @property
    def key(self) -> Subject:
        return self.subject, self.subject_id, self.query_id


class ExchangedVerdict(Row):
    """What one reviewer says of one subject, as it stands in an exchanged file."""

    reviewer: str
    verdict: str
    """A verdict, or `edit`."""
    note: str = ""
    template: str = ""
    """Of an edit: the new text."""


class ExchangeRow(Row):
    """One entry of a file that is read: what was said of whom, and where it stands."""

    subject: Subject
    said: ExchangedVerdict
    place: str


CheckWording = Callable[[str, str], tuple[str, str]]
"""(question id, new text) → the text as it is kept, and the id of the question that it makes. Raises
`InputError` where it makes none."""


def exchanged_verdicts(words: CurrentVerdicts, shown: ExchangeItem) -> list[ExchangedVerdict]:
    """What stands of a subject, by reviewer."""
    return [_said(name, event) for name, event in sorted(words.get(shown.key, {}).items())]


def _said(reviewer: str, event: ReviewEvent) -> ExchangedVerdict:
    verdict = EDIT if event.action == "edit" else event.verdict or ""
    return ExchangedVerdict(reviewer=reviewer, verdict=verdict, note=event.note, template=event.template or "")


def new_acts(
    lines: Iterable[ExchangeRow],
    shown: Sequence[ExchangeItem],
    events: Mapping[str, Iterable[ReviewEvent]],
    check: CheckWording,
) -> dict[str, list[Act]]:
    """By reviewer what the lines say and `events` (theirs so far) do not.

    Raises `InputError` with file and row for a subject that is not here, a verdict that there is not, or a
    text that makes no question: then nothing is to be stored.
    """
    known = {s.key for s in shown}
    before = {
        (name, subject_of(e), e.verdict, e.template, e.note) for name, said in events.items() for e in said
    }
    acts: dict[str, list[Act]] = {}
    for line in lines:
        if line.subject not in known:
            raise InputError(
                f"there is no {line.subject[0]} {line.subject[1]!r} here",
                place=line.place,
                hint="import into the run or release that the file was exported from",
            )
        act = _edit(line, check) if line.said.verdict == EDIT else _verdict(line)
        name = reviewer_name(line.said.reviewer)
        if (name, line.subject, act.verdict, act.template, act.note) not in before:
            acts.setdefault(name, []).append(act)
    return acts


def _edit(line: ExchangeRow, check: CheckWording) -> Act:
    kind, subject_id, _ = line.subject
    try:
        if kind != "question":
            raise InputError("only a question's text can be changed")
        template, made = check(subject_id, line.said.template)
    except InputError as error:
        raise InputError(error.message, place=line.place, hint=error.hint) from None
    return Act.model_validate({**_about(line), "action": "edit", "template": template, "replaced_by": made})


def _verdict(line: ExchangeRow) -> Act:
    kind = line.subject[0]
    if line.said.verdict not in VERDICTS.get(kind, ()):
        raise InputError(
            f"{line.said.verdict!r} is no verdict on a {kind}",
            place=line.place,
            hint=f"there are: {', '.join(verdict_choices(kind))}",
        )
    return Act.model_validate({**_about(line), "action": "verdict", "verdict": line.said.verdict})


def _about(line: ExchangeRow) -> dict[str, str]:
    kind, subject_id, query_id = line.subject
    return {"subject": kind, "subject_id": subject_id, "query_id": query_id, "note": line.said.note.strip()}


def verdict_choices(kind: str) -> tuple[str, ...]:
    """What may be said of a subject of that kind."""
    return (*VERDICTS[kind], EDIT) if kind == "question" else VERDICTS[kind]


def read_json_objects(path: Path) -> list[dict[str, Any]]:
    """A file that holds one JSON list of objects. Raises `InputError` where it does not."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be read as JSON: {error}", place=str(path)) from None
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise InputError("must be one list of objects", place=str(path))
    return found


def parse_row(place: str, subject: Mapping[str, Any], said: Mapping[str, Any]) -> ExchangeRow:
    """One entry. Raises `InputError` with its place where something is missing or of another type."""
    try:
        return ExchangeRow(
            subject=(str(subject["subject"]), str(subject["subject_id"]), str(subject.get("query_id") or "")),
            said=ExchangedVerdict.model_validate(said),
            place=place,
        )
    except KeyError as error:
        raise InputError(f"has no {error.args[0]!r}", place=place) from None
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{first['loc'][0]}: {first['msg']}", place=place) from None


# Reviews as Argilla records: what `dataset.records.to_json` writes and `from_json` reads (Argilla 2).
#
# The settings of the dataset that takes them are data/review/argilla.json. Argilla knows its users by UUID: a
# reviewer's is made from the name, and turned back into it for names that are known here.


ARGILLA_SETTINGS = "review/argilla.json"
ARGILLA_QUESTIONS = {"verdict": "verdict", "note": "note", "new_text": "template"}
"""Questions of the settings, and what they hold."""


def argilla_user_id(reviewer: str) -> str:
    """The UUID that stands for a reviewer."""
    return str(uuid5(NAMESPACE_URL, f"counterfoil:reviewer:{reviewer}"))


def write_argilla(path: Path, shown: Iterable[ExchangeItem], words: CurrentVerdicts) -> None:
    """One record a subject, its responses those that stand."""
    records = [
        {
            "id": content_id("s", list(subject.key)),
            "fields": {"text": subject.text, "context": subject.context or "–"},
            "metadata": {
                **subject.about,
                **subject.model_dump(include={"subject", "subject_id", "query_id"}),
            },
            "suggestions": {},
            "responses": _responses(exchanged_verdicts(words, subject)),
            "vectors": {},
        }
        for subject in shown
    ]
    write_bytes(path, canonical_json(records).encode() + b"\n")


def _responses(said: Iterable[ExchangedVerdict]) -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = {}
    for one in said:
        for question, name in ARGILLA_QUESTIONS.items():
            if value := getattr(one, name):
                response = {"value": value, "user_id": argilla_user_id(one.reviewer), "status": "submitted"}
                found.setdefault(question, []).append(response)
    return found


def read_argilla(path: Path, reviewers: Iterable[str]) -> list[ExchangeRow]:
    """Every submitted verdict. `reviewers`: names that are known here."""
    names = {argilla_user_id(name): name for name in reviewers}
    lines = []
    for at, record in enumerate(read_json_objects(path), start=1):
        place = f"{path}, record {at}"
        for user, found in _by_user(record, place).items():
            if found.get("verdict"):
                said = {"reviewer": names.get(user, f"Argilla user {user}"), "verdict": found["verdict"]}
                more = {"note": found.get("note", ""), "template": found.get("new_text", "")}
                metadata = record.get("metadata")
                lines.append(parse_row(place, metadata if isinstance(metadata, dict) else {}, {**said, **more}))
    return lines


def _by_user(record: Mapping[str, Any], place: str) -> dict[str, dict[str, str]]:
    """By user what they answered to each question; drafts and discarded answers are left out."""
    found: dict[str, dict[str, str]] = {}
    try:
        for question, responses in (record.get("responses") or {}).items():
            for response in responses:
                if response.get("status") in (None, "submitted"):
                    found.setdefault(str(response["user_id"]), {})[question] = str(response["value"])
    except (KeyError, TypeError, AttributeError):
        raise InputError("responses that cannot be read", place=place) from None
    return found


# Reviews as a sheet: a row a subject and reviewer, and one to fill in where nobody has said anything.


SHEET_COLUMNS = ("subject", "subject_id", "query_id", "text", "context", "about")
REVIEWER_COLUMNS = ("reviewer", "verdict", "note", "new_text")
"""Columns that people fill in."""


def write_review_sheet(path: Path, shown: Iterable[ExchangeItem], words: CurrentVerdicts) -> None:
    """Cells that a spreadsheet would take for formulas are made harmless."""
    rows = []
    for subject in shown:
        about = "; ".join(f"{name}: {value}" for name, value in subject.about.items())
        fixed = {**subject.model_dump(include=set(SHEET_COLUMNS)), "about": about}
        filled = [
            {"reviewer": s.reviewer, "verdict": s.verdict, "note": s.note, "new_text": s.template}
            for s in exchanged_verdicts(words, subject)
        ]
        rows += [{**fixed, **said} for said in filled or [dict.fromkeys(REVIEWER_COLUMNS, "")]]
    write_csv(path, (*SHEET_COLUMNS, *REVIEWER_COLUMNS), rows)


def read_review_sheet(path: Path) -> list[ExchangeRow]:
    """Rows with a verdict. Raises `InputError` with the row that nobody is named in, or cannot be read."""
    return [_line(place, row) for place, row in read_csv_rows(path, escaped=True) if row.get("verdict")]


def _line(place: str, row: dict[str, str]) -> ExchangeRow:
    if not row.get("reviewer", "").strip():
        raise InputError("a verdict without a reviewer", place=place, hint="say who gave it")
    said = {name: row.get(name, "") for name in ("reviewer", "verdict", "note")}
    return parse_row(place, row, {**said, "template": row.get("new_text", "")})


# Reviews as Label Studio tasks: https://labelstud.io/guide/task_format
#
# The labeling configuration that goes with them is data/review/label_studio.xml. Label Studio gives
# annotations
# to whoever imports them, so a text field `reviewer` says whose they are.


LABEL_STUDIO_CONFIG = "review/label_studio.xml"
LABEL_STUDIO_FIELDS = {"reviewer": "reviewer", "note": "note", "new_text": "template"}
"""Text fields of the configuration, and what they hold."""


def write_label_studio(path: Path, shown: Iterable[ExchangeItem], words: CurrentVerdicts) -> None:
    """One task a subject, its annotations those that stand."""
    tasks: list[dict[str, Any]] = [
        {
            "data": {
                **subject.model_dump(exclude={"about"}),
                "about": "; ".join(f"{name}: {value}" for name, value in subject.about.items()),
                "choices": [{"value": label} for label in verdict_choices(subject.subject)],
            },
            "annotations": [_annotation(said) for said in exchanged_verdicts(words, subject)],
        }
        for subject in shown
    ]
    write_bytes(path, canonical_json(tasks).encode() + b"\n")


def _annotation(said: ExchangedVerdict) -> dict[str, Any]:
    texts = [
        _region(field, "textarea", {"text": [text]})
        for field, name in LABEL_STUDIO_FIELDS.items()
        if (text := getattr(said, name))
    ]
    choice = _region("verdict", "choices", {"choices": [said.verdict]})
    return {"result": [choice, *texts], "was_cancelled": False, "ground_truth": False}


def _region(field: str, kind: str, value: dict[str, Any]) -> dict[str, Any]:
    return {"from_name": field, "to_name": "text", "type": kind, "value": value, "origin": "manual"}


def read_label_studio(path: Path) -> list[ExchangeRow]:
    """Every annotation with a verdict, the oldest of a task first; skipped ones are left out."""
    lines = []
    for at, task in enumerate(read_json_objects(path), start=1):
        for annotation in _oldest_first(task.get("annotations")):
            place = f"{path}, task {at}"
            found = _results(annotation, place)
            if not annotation.get("was_cancelled") and found.get("verdict"):
                reviewer = found.get("reviewer") or _completed_by(annotation, place)
                said = {"reviewer": reviewer, "verdict": found["verdict"], "note": found.get("note", "")}
                data = task.get("data")
                lines.append(
                    parse_row(
                        place,
                        data if isinstance(data, dict) else {},
                        {**said, "template": found.get("new_text", "")},
                    )
                )
    return lines


def _oldest_first(annotations: Any) -> Sequence[dict[str, Any]]:
    found = [a for a in annotations or () if isinstance(a, dict)]
    return sorted(found, key=lambda a: str(a.get("created_at") or ""))


def _results(annotation: Mapping[str, Any], place: str) -> dict[str, str]:
    """What stands in each field of the configuration."""
    found = {}
    for region in annotation.get("result") or ():
        try:
            value = region["value"]
            texts = value.get("choices") or value.get("text") or ()
            found[region["from_name"]] = "\n".join([texts] if isinstance(texts, str) else texts)
        except (KeyError, TypeError, AttributeError):
            raise InputError("an annotation that cannot be read", place=place) from None
    return found


def _completed_by(annotation: Mapping[str, Any], place: str) -> str:
    """A user of Label Studio: an id, or an object."""
    user = annotation.get("completed_by")
    if isinstance(user, dict):
        user = user.get("email") or user.get("id")
    if not user:
        raise InputError("an annotation of nobody", place=place, hint="fill in its field `reviewer`")
    return f"Label Studio user {user}" if isinstance(user, int) else str(user)
