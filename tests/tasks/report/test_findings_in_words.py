"""Findings are sentences with direction, size and certainty, the same on every page and in the terminal."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from flows.commands import call
from schemas.answers import JUDGEMENTS, ValueFinding
from schemas.question import QUESTIONS, UNREVIEWED_TRANSLATION
from tasks.release import open_release
from tasks.release.findings import release_findings
from tasks.report import view_release
from tasks.report.findings_view import contrast_panels
from tasks.report.names import Names
from tasks.report.sentences import criterion_spans, equals, summarise_findings
from tests.conftest import DATA
from tests.release_fixtures import package_build
from tests.tasks.report.planted import FAIR, HARSH, package_planted, planted_build


def sentences_of(release: Path) -> list[tuple[str, str]]:
    opened = open_release(release)
    found = view_release(opened.manifest, opened.contents, DATA)
    return [(s.kind, s.text) for s in found.sentences]


def test_the_planted_direction_is_named_with_its_size(planted_release: Path) -> None:
    differs = [text for kind, text in sentences_of(planted_release) if kind == "differs"]
    worse = [text for text in differs if text.startswith("Harsh-8B gives Muslim worse advice")]
    assert len(worse) == 2, differs
    pattern = (
        r"Harsh-8B gives Muslim worse advice than the average of the four values in (English|Spanish): "
        r"−0\.[78]\d points of 4 \[−\d\.\d\d, −\d\.\d\d\], q (< \.001|= \.00\d), in (24|12) questions "
        r"\(coverage 100 %\)\."
    )
    assert all(re.fullmatch(pattern, text) for text in worse), worse
    assert not any("Fair-8B" in text for text in differs)
    better = [text for text in differs if text not in worse]
    assert len(better) == 2
    assert all("Hindu" in t and "better advice" in t and t not in differs[:2] for t in better), better


def test_a_fair_model_has_no_difference_and_the_smallest_detectable_one(planted_release: Path) -> None:
    without = [text for kind, text in sentences_of(planted_release) if kind == "no_difference_found"]
    fair = [text for text in without if "Fair-8B" in text]
    assert fair
    for text in fair:
        assert text.startswith("No difference was found between the four values of Religion")
        assert re.search(r"smallest detectable: 0\.\d\d points of 4", text), text


def test_models_and_languages_are_compared_in_pairs(planted_release: Path) -> None:
    opened = open_release(planted_release)
    found = view_release(opened.manifest, opened.contents, DATA)
    said = [sentence for c, sentence in found.comparisons if c.value == "muslim" and c.verdict == "differs"]
    assert any(
        s.startswith("Muslim is treated better by") and "Fair-8B than with Harsh-8B" in s for s in said
    )
    languages = [c for c, _ in found.comparisons if c.by == "language"]
    assert {c.n for c in languages} == {12}
    assert {c.verdict for c in languages} == {"no_difference_found"}


def test_too_few_questions_are_named_first_as_not_measured(tmp_path: Path) -> None:
    found = sentences_of(package_planted(tmp_path, topics=4))
    assert found[0][0] == "not_measured"
    assert "too few independent questions" in found[0][1]
    assert not any(kind == "differs" for kind, _ in found)


def finding(value: str, model: str, family: str, language: str, **more: object) -> ValueFinding:
    fields: dict[str, object] = {
        "attribute": "religion", "value": value, "model": model, "language": language, "family": family,
        "topic": "all", "framing": "all", "condition": "plain", "metric": "rating",
        "unit": "share of the scale", "n": 9, "contrast": -0.2, "low": -0.3, "high": -0.1,
        "p_value": 0.004, "q_value": 0.006,
        "detectable": 0.1, "coverage": 1.0, "verdict": "differs", "words": "", "reason": None,
    }  # fmt: skip
    return ValueFinding.model_validate({**fields, **more})


def test_every_model_family_and_language_has_a_sentence_before_one_has_two() -> None:
    worse = [
        finding(value, "m", family, language)
        for family in ("open", "decision", "rating")
        for language in ("en", "es")
        for value in ("muslim", "jew", "hindu")
    ]
    lost = finding(
        "muslim", "n", "rating", "en", verdict="not_measured", contrast=None, low=None, high=None, reason="x"
    )
    none = finding(
        "jew", "o", "decision", "es", verdict="no_difference_found", unit="share of favourable answers"
    )
    said = summarise_findings([*worse, none, lost], Names({}, {}), most=7)
    differ = [s.text for s in said if s.kind == "differs"]
    assert len(differ) == 7
    assert len(set(differ[:6])) == 2  # English and Spanish of each family: the sentences do not name families
    assert ["muslim" in text for text in differ[:6]] == [True] * 6
    assert "jew" in differ[6]
    assert said[0].kind == "not_measured"
    assert "11 more sentences on differences" in said[8].text
    assert [s.kind for s in said[9:]] == ["no_difference_found"]
    assert "in decisions in Spanish (smallest detectable: 0.10 of favourable answers)" in said[9].text
    assert "−0.20 of the scale [−0.30, −0.10]" in differ[0]


def test_unreviewed_translations_are_a_language_of_their_own(tmp_path: Path) -> None:
    build = planted_build()
    waiting = {
        q.id: q.model_copy(update={"operator": UNREVIEWED_TRANSLATION})
        for q in build.generated
        if q.language == "es"
    }
    questions = tuple(waiting.get(q.id, q) for q in build.generated)
    recipe = {"models": {"targets": [HARSH, FAIR], "judges": ["openai:gpt-5-mini"]}}
    release = package_build(tmp_path, replace(build, generated=questions, standing=questions), recipe)
    opened = open_release(release)
    found = release_findings(opened.contents, opened.manifest, DATA)
    assert {f.language for f in found} == {"en", "es-x-unreviewed"}
    assert all(
        "translations that nobody reviewed" in text
        for kind, text in sentences_of(release)
        if "Spanish" in text
    )
    assert {q.language for q in opened.contents.rows(QUESTIONS)} == {"en", "es"}
    card = (release / "README.md").read_text(encoding="utf-8")
    assert "12 in es translated by a model and not reviewed" in card
    compared = call("compare", release=release, languages=("en", "es"))["comparisons"]
    assert {c["b"] for c in compared} == {"es-x-unreviewed"}


def test_every_place_has_the_same_sentences(planted_release: Path) -> None:
    opened = open_release(planted_release)
    spans = criterion_spans(opened.contents.rows(JUDGEMENTS))
    view = view_release(opened.manifest, opened.contents, DATA)
    rows = release_findings(opened.contents, opened.manifest, DATA)
    texts = [s.text for s in summarise_findings(rows, view.names, spans)]
    page = (planted_release / "report.html").read_text(encoding="utf-8")
    card = (planted_release / "README.md").read_text(encoding="utf-8")
    shown = call("show", place=planted_release)["summary"]
    assert shown == texts
    plain_page = re.sub(r"</?(em|bdi)>", "", page)
    plain_card = card.replace("\\", "").replace("*", "")
    for text in texts:
        assert text.replace("<", "&lt;") in plain_page
        assert text in plain_card
    assert "127.0.0.1" not in card


@pytest.mark.parametrize(
    ("p", "words"), [(0.0004, "q < .001"), (0.002, "q = .002"), (0.5, "q = .500"), (1.0, "q = 1.000")]
)
def test_q_values_are_written_without_a_leading_zero(p: float, words: str) -> None:
    assert equals("q", p) == words


def test_a_contrast_that_was_not_measured_is_not_drawn() -> None:
    rest = {
        "attribute": "gender",
        "model": "openai:model",
        "language": "en",
        "family": "decision",
        "topic": "all",
        "framing": "all",
        "condition": "plain",
        "metric": "favourable",
        "unit": "share of favourable answers",
        "n": 4,
        "p_value": None,
        "q_value": None,
        "detectable": None,
        "coverage": 1.0,
        "words": "",
    }
    unmeasured = ValueFinding(
        **rest,
        value="woman",
        contrast=-0.25,
        low=None,
        high=None,
        verdict="not_measured",
        reason="too few independent questions for an interval",
    )
    measured = unmeasured.model_copy(
        update={"metric": "refusal", "low": -0.5, "high": 0.0, "verdict": "no_difference_found"}
    )
    names = Names.of(["openai:model"], {})
    assert contrast_panels([unmeasured], names, {}) == ()
    (panel,) = contrast_panels([unmeasured, measured], names, {})
    assert {f.metric for f in panel.findings.values()} == {"refusal"}
