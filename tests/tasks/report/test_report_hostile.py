"""The report stays a small page of text for hostile releases."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from schemas.answers import EFFECTS, JUDGEMENTS, RESPONSES, Score
from schemas.question import QUESTIONS, Question
from schemas.recipe import FAMILIES
from schemas.tables import Row, Table
from tasks.release import Contents, open_release
from tasks.report import render_report, report_data
from tests.release_fixtures import package_build
from tests.tasks.release.example import (
    DATA_DIR,
    JUDGES,
    Build,
    a_judgement,
    a_response,
    an_effect,
    example_question,
    small_build,
)
from tests.tasks.report.test_report import Page
from tests.tasks.report.test_report_numbers import numbers_of, wrong_numbers

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "[x](javascript:alert(1)) javascript:alert(1)",
    "\u202eevil\u2066 \u200f",
    "=HYPERLINK(\"http://example.org\")",
    "{{ 7 * 7 }}{% raw %}",
    "</style></svg></title><!--",
    "a\x0b\x01b",
    "'; drop table questions; --",
)  # fmt: skip
FORBIDDEN = ("<script", "<img", "onerror=alert(1)>", 'href="javascript', "49{%", "<!--")


def hostile_build() -> Build:
    build = small_build()
    asked = [
        example_question(
            topic=f"{text} waited",
            domain=f"d{text}",
            ask=text,
            round=1,
            operator="refine",
            fitness=0.9 - i / 10,
        )
        for i, text in enumerate(HOSTILE)
    ]
    answers = [
        a_response(q, v.index, text=text) for q, text in zip(asked, HOSTILE, strict=True) for v in q.variants
    ]
    answers[0] = answers[0].model_copy(update={"text": "<b>" + "word " * 200_000})
    verdicts = [
        a_judgement(q, JUDGES[0], fitness=0.5).model_copy(
            update={"scores": (Score(criterion=text, value=3, reasoning=f"It says “{text}”."),)}
        )
        for q, text in zip(asked, HOSTILE, strict=True)
    ]
    effects = [
        an_effect("domain", f"work/{text}", "gender", 0.1, metric=f"m{text}", unit=text) for text in HOSTILE
    ]
    build = replace(
        build,
        responses=(*build.responses, *answers),
        judgements=(*build.judgements, *verdicts),
        effects=(*build.effects, *effects),
    )
    return build.with_questions(*asked)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("hostile")
    recipe = {"title": HOSTILE[0] + HOSTILE[3], "description": HOSTILE[1]}
    return package_build(home, hostile_build(), recipe)


@pytest.fixture(scope="module")
def text(release: Path) -> str:
    return (release / "report.html").read_text(encoding="utf-8")


def test_nothing_hostile_becomes_markup(text: str) -> None:
    page = Page(text)
    assert not {"script", "img", "iframe", "object", "form", "b/"} & set(page.tags)
    assert [link for link in page.links if ":" in link and link != "https://duckdb.org"] == []
    assert [found for found in FORBIDDEN if found in text] == []
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "\x0b" not in text
    assert "\x01" not in text


def test_direction_changes_are_isolated(text: str) -> None:
    """Only inside `bdi`, cells and blocks can a character change the direction of text."""
    assert "\u202e" in text, "texts are shown as they are"
    outside = re.sub(r"<bdi>.*?</bdi>", "", text, flags=re.DOTALL)
    assert not re.search("[\u202a-\u202e\u2066-\u2069]", outside)


def test_long_answer_is_cut_with_a_query_for_the_whole(text: str, release: Path) -> None:
    assert len(text) < 1_000_000
    found = re.search(
        r"\(([\d,]+) characters in total\)\. Full text: <code>(select text from responses[^<]+)</code>", text
    )
    assert found is not None
    assert found.group(1) == "1,000,003"


def test_numbers_of_hostile_names_still_come_from_their_queries(text: str, release: Path) -> None:
    assert len(numbers_of(text)) > 60
    assert wrong_numbers(text, release) == []


def huge_build() -> Build:
    """Return a build with many groups, long multi-byte answers, and many slices, models and metrics."""
    build = small_build()
    long = "ẞ" * 5_000
    asked: list[Question] = [
        example_question(
            attribute, superdomain=f"super{i % 40}", domain=f"domain {i % 400}", topic=f"{i} {long[:900]}",
            fitness=i / 3000, round=i % 90, operator=f"operator {i % 7}",
            family="open" if i % 3 else FAMILIES[i % len(FAMILIES)],
        )
        for i in range(2_400)
        for attribute in (("gender", "age", "religion")[i % 3],)
    ]  # fmt: skip
    answers = [
        a_response(q, v.index, k, text=long) for q in asked[::97] for v in q.variants for k in range(4)
    ]
    verdicts = [
        a_judgement(q, f"openai:judge-{k}", fitness=0.4).model_copy(
            update={"scores": tuple(Score(criterion=f"c{n}", value=n, reasoning=long) for n in range(12))}
        )
        for q in asked[::97]
        for k in range(9)
    ]
    effects = [
        an_effect(
            "domain", f"super/domain {i}", "gender", i / 40,
            family=family, metric=f"metric{m}", model=f"openai:model-{k}",
        )
        for family in FAMILIES for m in range(6) for k in range(6) for i in range(25)
    ]  # fmt: skip
    build = replace(
        build,
        responses=(*build.responses, *answers),
        judgements=(*build.judgements, *verdicts),
        effects=(*build.effects, *effects),
    )
    return build.with_questions(*asked)


def test_report_of_a_large_release_stays_small(small_release: Path) -> None:
    build, manifest = huge_build(), open_release(small_release).manifest
    tables: dict[Table[Any], Sequence[Row]] = {
        QUESTIONS: build.standing,
        RESPONSES: build.responses,
        JUDGEMENTS: build.judgements,
        EFFECTS: build.effects,
    }
    contents = Contents({table.name: table.to_arrow(rows) for table, rows in tables.items()})
    page = render_report(report_data(manifest, contents), DATA_DIR)
    assert len(page.encode()) < 3_000_000
    Page(page)
