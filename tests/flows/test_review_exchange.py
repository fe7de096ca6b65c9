"""`counterfoil review` exports reviews of a release to a file and imports them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from flows.exchange import FORMATS, export_reviews, format_of, import_reviews
from flows.workspace import Workspace
from schemas.errors import InputError
from schemas.labels import Act
from tasks.review.events import append_events, read_events, reviews_folder
from tasks.review.subjects import ReviewSubjects, open_subjects
from tests.conftest import DATA
from tests.tasks.review.places import small_release

Place = tuple[Workspace, ReviewSubjects]


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> ReviewSubjects:
    home = tmp_path_factory.mktemp("release")
    return open_subjects(small_release(home, 4), home / "releases")


@pytest.fixture
def place(material: ReviewSubjects, tmp_path: Path) -> Place:
    return Workspace(DATA, tmp_path / "home"), material


def some_question(material: ReviewSubjects) -> str:
    return min(name for name, kind in material.kinds.items() if kind == "accepted")


@pytest.mark.parametrize("format", FORMATS)
def test_reviews_survive_an_export_and_import_unchanged(format: str, place: Place, tmp_path: Path) -> None:
    workspace, material = place
    directory = reviews_folder(workspace.home, material.benchmark)
    name = some_question(material)
    act = Act(action="verdict", subject="question", subject_id=name, verdict="good", note="=1+1")
    append_events(directory, "Ada", [act])
    file = tmp_path / ("out.csv" if format == "csv" else "out.json")
    exported = export_reviews(workspace, material, file, format)
    assert exported["subjects"] == sum(kind != "control" for kind in material.kinds.values())
    assert ("setup" in exported) == (format != "csv")
    assert format_of(file) == format
    before = read_events(directory)
    assert import_reviews(workspace, material, file)["new"] == 0
    assert read_events(directory) == before


def test_a_new_text_is_checked_as_on_the_page(place: Place, tmp_path: Path) -> None:
    workspace, material = place
    question = material.questions[some_question(material)]
    sheet = tmp_path / "sheet.csv"
    row = {"subject": "question", "subject_id": question.id, "query_id": "", "reviewer": "Ada"}
    row |= {"verdict": "edit", "note": "", "new_text": question.template.removesuffix("?") + " this year?"}

    def write(text: str) -> None:
        with sheet.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, list(row))
            writer.writeheader()
            writer.writerow({**row, "new_text": text})

    write("Too short.")
    with pytest.raises(InputError, match="violates a quality rule"):
        import_reviews(workspace, material, sheet)
    assert read_events(reviews_folder(workspace.home, material.benchmark)) == {}
    write(row["new_text"])
    assert import_reviews(workspace, material, sheet)["new"] == 1
    assert import_reviews(workspace, material, sheet)["new"] == 0
    ((event,),) = read_events(reviews_folder(workspace.home, material.benchmark)).values()
    assert event.template == row["new_text"]
    assert (event.replaced_by or "").startswith("q_")


def test_a_file_of_no_known_kind_is_refused(place: Place, tmp_path: Path) -> None:
    workspace, material = place
    (tmp_path / "x.json").write_text(json.dumps([{"what": 1}]))
    with pytest.raises(InputError, match="not a review sheet"):
        import_reviews(workspace, material, tmp_path / "x.json")
    with pytest.raises(InputError, match="format of the file"):
        export_reviews(workspace, material, tmp_path / "x.json")
