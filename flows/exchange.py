"""Export reviews to files of other tools, and import them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flows.reviews import resume_if_enough
from flows.workspace import Workspace
from schemas.errors import InputError
from tasks.files.depth import read_json
from tasks.review import propose_wording
from tasks.review.answer_sample import GroupKey, masked_versions
from tasks.review.events import append_events, current_verdicts, read_events, reviews_folder
from tasks.review.exchange import (
    ARGILLA_SETTINGS,
    LABEL_STUDIO_CONFIG,
    CheckWording,
    ExchangeItem,
    ExchangeRow,
    new_acts,
    read_argilla,
    read_label_studio,
    read_review_sheet,
    write_argilla,
    write_label_studio,
    write_review_sheet,
)
from tasks.review.subjects import ReviewSubjects
from tasks.run.store import write_bytes

FORMATS = ("csv", "label-studio", "argilla")
SETTINGS = {"label-studio": LABEL_STUDIO_CONFIG, "argilla": ARGILLA_SETTINGS}


def export_reviews(
    workspace: Workspace, material: ReviewSubjects, path: Path, format: str | None = None
) -> dict[str, Any]:
    """Write all subjects with their verdicts. For Label Studio and Argilla, also write the project settings.

    Raises:
        InputError: If the format is not given and the file does not end in .csv.
    """
    chosen = export_format(path, format)
    shown = subjects_of(material, workspace.vocabulary)
    words = current_verdicts(read_events(reviews_folder(workspace.home, material.benchmark)))
    path.parent.mkdir(parents=True, exist_ok=True)
    write = {"csv": write_review_sheet, "label-studio": write_label_studio, "argilla": write_argilla}[chosen]
    write(path, shown, words)
    result = {"out": str(path), "format": chosen, "subjects": len(shown)}
    if set_up := SETTINGS.get(chosen):
        beside = settings_beside(path, set_up)
        write_bytes(beside, (workspace.vocabulary / set_up).read_bytes())
        result["setup"] = str(beside)
    return result


def export_format(path: Path, format: str | None) -> str:
    """Return the format of an export. Raise `InputError` if it is not known."""
    chosen = format or ("csv" if path.suffix == ".csv" else None)
    if chosen is None:
        raise InputError(
            "the format of the file is not known", place=str(path), hint=f"--format {'|'.join(FORMATS)}"
        )
    return chosen


def exported_files(path: Path, format: str | None) -> tuple[Path, ...]:
    """Return the files that an export writes."""
    set_up = SETTINGS.get(export_format(path, format))
    return (path, settings_beside(path, set_up)) if set_up else (path,)


def settings_beside(path: Path, set_up: str) -> Path:
    """Return the place of the project settings of another tool."""
    return path.with_suffix(f".setup{Path(set_up).suffix}")


def import_reviews(
    workspace: Workspace, material: ReviewSubjects, path: Path, format: str | None = None
) -> dict[str, Any]:
    """Append the new verdicts of a file. If a row is wrong, nothing is appended.

    A flow run that waits for these reviews is resumed if enough are reviewed.
    """
    directory = reviews_folder(workspace.home, material.benchmark)
    events = read_events(directory)
    lines = read_lines(path, format or format_of(path), tuple(events))
    acts = new_acts(lines, subjects_of(material, workspace.vocabulary), events, check_in(workspace, material))
    stored = {name: append_events(directory, name, said) for name, said in sorted(acts.items())}
    return {
        "read": len(lines),
        "new": sum(map(len, stored.values())),
        "reviewers": len({line.given.reviewer for line in lines}),
        "resumed": resume_if_enough(workspace, material.benchmark),
    }


def read_lines(path: Path, format: str, reviewers: tuple[str, ...]) -> list[ExchangeRow]:
    """Return the rows of an exchanged file."""
    if format == "argilla":
        return read_argilla(path, reviewers)
    return (read_review_sheet if format == "csv" else read_label_studio)(path)


def format_of(path: Path) -> str:
    """Detect the format of a file. Raise `InputError` if it is none of them."""
    if path.suffix == ".csv":
        return "csv"
    try:
        first = read_json(path)[0]
        return next(name for name, key in (("label-studio", "data"), ("argilla", "fields")) if key in first)
    except (OSError, ValueError, LookupError, TypeError, StopIteration):
        raise InputError(
            "the file is not a review sheet, a Label Studio export or an Argilla export",
            place=str(path),
            hint=f"name its format with --format {'|'.join(FORMATS)}",
        ) from None


def subjects_of(material: ReviewSubjects, data_dir: Path) -> list[ExchangeItem]:
    """Return all subjects except controls, questions first, then passages and answers, sorted by id."""
    questions = [
        ExchangeItem(
            subject="question",
            subject_id=q.id,
            text=q.template,
            context="\n".join(v.text for v in q.variants),
            about={
                "kind": material.kinds[q.id],
                "family": q.family,
                "attribute": q.attribute,
                "domain": f"{q.superdomain}/{q.domain}",
            },
        )
        for _, q in sorted(material.questions.items())
        if material.kinds[q.id] != "control"
    ]
    passages = [
        ExchangeItem(
            subject="passage",
            subject_id=passage_id,
            query_id=query_id,
            text=case.passage.text,
            context=case.query,
            about={"kind": "passage", "label": case.change.after},
        )
        for (query_id, passage_id), case in sorted(material.passages.items())
    ]
    return questions + passages + [_answers_item(material, key, data_dir) for key in _sampled(material)]


def _sampled(material: ReviewSubjects) -> list[GroupKey]:
    return sorted(key for key, group in material.answers.items() if group.sampled)


def _answers_item(material: ReviewSubjects, key: GroupKey, data_dir: Path) -> ExchangeItem:
    """Return masked answers by version, in the order in which people see them."""
    model, question_id = key
    question, group = material.questions[question_id], material.answers[key]
    text, versions = masked_versions(question, material.responses.rows_of(question_id), group, data_dir)
    shown = (
        f"Version {number}\n" + "\n\n".join(answers or ("No answer",))
        for number, (_, answers) in enumerate(versions, start=1)
    )
    return ExchangeItem(
        subject="answers",
        subject_id=question_id,
        query_id=model,
        text="\n\n".join(shown),
        context=text,
        order=group.order,
        about={"kind": "answers", "attribute": question.attribute},
    )


def check_in(workspace: Workspace, material: ReviewSubjects) -> CheckWording:
    """Return a function that checks a new wording as the review page does.

    A wording that equals an existing question gets the id of that question.
    """

    def check(question_id: str, text: str) -> tuple[str, str]:
        found = propose_wording(
            material.questions[question_id], text, known=(), data_dir=workspace.vocabulary
        )
        if found.question_id is None:
            raise InputError(found.fault or "the new text is invalid", hint=found.hint)
        return found.template, found.question_id

    return check
