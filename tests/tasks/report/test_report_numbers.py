"""Every number of the report links to a file of the release, and its query returns the number."""

from __future__ import annotations

import html
import math
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pytest

from schemas.gate import Finding, Quarantine
from schemas.labels import PROPOSALS, StageCounts
from schemas.release import ClearOf, HoldBack, NearMiss, PeopleReview, RelabelledPassage
from tasks.release import open_release
from tasks.report import render_report, report_data
from tasks.report.coverage import describe_coverage, release_coverage
from tests.release_fixtures import package_build
from tests.tasks.release.example import DATA_DIR, JUDGES, RECORD, example_question, small_build
from tests.tasks.report.test_passports_shown import with_passports


class Number(NamedTuple):
    text: str
    file: str
    query: str


def numbers_of(page: str) -> list[Number]:
    found = re.findall(r'<a class="num" href="([^"]*)" title="([^"]*)" tabindex="-1">(.*?)</a>', page)
    return [Number(html.unescape(text), html.unescape(f), html.unescape(query)) for f, query, text in found]


def views_of(page: str, release: Path) -> duckdb.DuckDBPyConnection:
    """Open the tables as the page describes."""
    match = re.search(r'<code id="views">(.*?)</code>', page, flags=re.DOTALL)
    assert match is not None
    connection = duckdb.connect()
    connection.execute(f"set file_search_path = '{release}'")
    connection.execute(html.unescape(match.group(1)))
    return connection


def matches_value(number: Number, value: Any) -> bool:
    """Check that the text equals the result of the query to the digits shown."""
    if value is None:
        return number.text == "–"
    text = number.text.replace("−", "-").replace("+", "").replace(",", "").removeprefix("$")
    if text.startswith("<"):
        return float(value) < float(text.removeprefix("< "))
    digits = len(text.partition(".")[2])
    return math.isclose(float(text), float(value), abs_tol=0.5000001 * 10**-digits)


def wrong_numbers(page: str, release: Path) -> list[tuple[Number, Any]]:
    connection = views_of(page, release)
    wrong = []
    for number in sorted({n for n in numbers_of(page) if n.query.startswith(("select ", "with "))}):
        (value,) = connection.execute(number.query).fetchone() or (None,)
        if not matches_value(number, value):
            wrong.append((number, value))
    return wrong


@pytest.fixture(scope="module", params=["small_release", "large_release"])
def release(request: pytest.FixtureRequest) -> Path:
    place: Path = request.getfixturevalue(request.param)
    return place


@pytest.fixture(scope="module")
def page(release: Path) -> str:
    return (release / "report.html").read_text()


def test_every_number_links_to_a_file_of_the_release(page: str, release: Path) -> None:
    numbers = numbers_of(page)
    assert len(numbers) > 60
    assert [n for n in numbers if not (release / n.file).is_file() or not n.query] == []


def test_every_query_gives_the_number_that_is_shown(page: str, release: Path) -> None:
    assert wrong_numbers(page, release) == []


def test_only_statistics_without_a_query_have_a_description(page: str) -> None:
    texts = {n.query for n in numbers_of(page) if not n.query.startswith(("select ", "with "))}
    allowed = ("mean of the search fitness", "mean over accepted", "number of judges", "groups with at least",
               "Krippendorff's alpha", "kappa with", "selected open questions")  # fmt: skip
    assert [words for words in texts if not words.startswith(allowed)] == []


def test_cells_of_numbers_hold_linked_numbers_only(page: str) -> None:
    """Every new column of numbers must name its source."""
    cells = re.findall(r'<td class="n(?: heat| key)?"[^>]*>(.*?)</td>', page)
    assert len(cells) > 40
    bare = [re.sub(r'<a class="num".*?</a>', "", cell) for cell in cells]
    assert [cell for cell in bare if re.search(r"\d", cell)] == []


def test_snippets_of_every_section_run(page: str, release: Path) -> None:
    connection = views_of(page, release)
    snippets = re.findall(r'<details class="how">.*?<code>(.*?)</code></pre>', page, flags=re.DOTALL)
    assert len(snippets) >= 8
    for snippet in snippets:
        connection.execute(html.unescape(snippet))


def with_everything(release: Path, folder: Path) -> tuple[Path, str]:
    """Package a release with every optional manifest entry, and render its report."""
    _, manifest = with_passports(release, 0.31)
    contents = open_release(release).contents
    first, second = (row["id"] for row in contents.records("questions")[:2])
    whole = manifest.model_copy(
        update={
            "validation": {"passed": 1, "warnings": 1, "errors": 0},
            "warnings": (
                Finding(
                    id="f1", table="questions", column=None, check="balance", severity="warning",
                    message="values are not balanced", count=3, examples=(first,),
                ),
            ),
            "quarantine": Quarantine(
                questions=96, failing=2, taken=2, limit=0.05, checks={"equal_but_for_the_slots": 2}
            ),
            "near_misses": (NearMiss(question_id=first, other_id=second, similarity=88.42),),
            "passages": (
                RelabelledPassage(
                    query_id="k1", query="Can honey spoil?", passage_id="n29",
                    passage="Honey keeps for years. It does not spoil.", before="hard_negative",
                    after="positive", reason="ranked_above_positive", judge=JUDGES[0],
                    evidence="It does not spoil.",
                ),
            ),
            "clear_of": (ClearOf(name="earlier@1.0.0", compared=412, overlapping=7),),
            "hold_back": HoldBack(questions=12, sha256="0" * 64),
            "review": PeopleReview(
                people=3, questions=41, passages=0, kept=30, dropped=6, edited=3, contested=2, undecided=0,
                shared=9, alpha=0.71, alpha_low=0.55, alpha_high=0.84,
            ),
            "files": {},
        }
    )  # fmt: skip
    for name in ("data", "validation", "CHANGELOG.md", "coverage.csv"):
        os.symlink(release / name, folder / name)
    (folder / "manifest.json").write_text(whole.model_dump_json(indent=1))
    return folder, render_report(report_data(whole, contents), DATA_DIR)


def test_all_facts_of_a_manifest_are_shown_with_their_source(large_release: Path, tmp_path: Path) -> None:
    folder, page = with_everything(large_release, tmp_path)
    text = re.sub(r"<[^>]+>", "", page)
    for sentence in (
        "3 reviewers checked 41 groups",
        "is alpha = 0.71 (0.55 to 0.84)",
        "0 of 2 passed an audit",
        "Compared with earlier@1.0.0 (412 texts): 7",
        "Private questions, which are in no file of this release: 12",
        "values are not balanced",
        "2 of 96 questions failed a check",
        "88.4",
    ):
        assert sentence in text, sentence
    assert "<mark>It does not spoil.</mark>" in page
    assert wrong_numbers(page, folder) == []


def sections_of(page: str) -> Iterable[tuple[str, str]]:
    return re.findall(r'<section id="(\w+)">(.*?)</section>', page, flags=re.DOTALL)


def test_sections_are_ordered_and_not_empty(page: str) -> None:
    order = ["comparisons", "funnel", "effects", "coverage", "evolution", "judges", "duplicates", "labels",
             "groups", "cost", "changes", "tables"]  # fmt: skip
    found = dict(sections_of(page))
    assert list(found) == [name for name in order if name in found]
    for name, section in found.items():
        assert len(re.sub(r"<[^>]+>|\s", "", section)) > 45, name
        assert not re.search(r"<tbody>\s*</tbody>", section), name


def test_changes_since_the_last_release_are_counted_and_shown(tmp_path: Path) -> None:
    package_build(tmp_path, small_build())
    more = example_question("religion", topic="asked me for a reference")
    release = package_build(tmp_path, small_build().with_questions(more))
    page = (release / "report.html").read_text()
    changes = dict(sections_of(page))["changes"]
    assert "This minor release replaces version 0.1.0" in changes
    assert "asked me for a reference" in changes
    assert wrong_numbers(page, release) == []


def test_unusable_proposals_of_topics_are_in_report_card_and_coverage(tmp_path: Path) -> None:
    proposed = StageCounts(stage=PROPOSALS, unit="topics", rows=12, kept=10, dropped=2, failed=0)
    place = package_build(tmp_path, small_build(), counts=(proposed, *RECORD["counts"]))
    page = (place / "report.html").read_text()
    assert "10 of 12 proposals of topics could be used" in re.sub(r"<[^>]+>", "", page)
    assert wrong_numbers(page, place) == []
    assert "| proposals of topics | 10 | 12 |" in (place / "README.md").read_text()
    release = open_release(place)
    coverage = release_coverage(release.contents, release.manifest.counts).to_json()
    assert coverage["topics"] == {"asked": 12, "usable": 10, "coverage": 0.8333}
    assert "coverage: 83.3% of 12 proposals of topics" in describe_coverage(coverage)
