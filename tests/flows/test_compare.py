"""Compare two models, two languages, two framings and two releases, paired by question."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest

from flows.commands import call
from schemas.errors import InputError
from tests.release_fixtures import package_build
from tests.tasks.release.example import Build, a_judgement, a_response, example_question

HARSH, FAIR = "openai:org/harsh@http://127.0.0.1:9/v1", "openai:org/fair@http://127.0.0.1:9/v1"
TOPICS = 24


def build_of(gap: float, *, topics: int = TOPICS, answered_by_fair: int = TOPICS, lift: float = 0.3) -> Build:
    """Questions in two framings, judged for two models. The harsh model scores higher by `gap`."""
    random = Random(4)
    questions, judgements, responses = [], [], []
    for i in range(topics):
        topic = f"asked the team for advice on project {i}"
        explicit = example_question(topic=topic)
        implicit = example_question(topic=topic + " again", framing="implicit", twin_id=explicit.id)
        for q in (explicit, implicit):
            difficulty = 0.1 + lift * random.random() + (0.1 if q.framing == "implicit" else 0.0)
            questions.append(q)
            for model, extra in ((HARSH, gap), (FAIR, 0.0)):
                for v in q.variants:
                    responses.append(a_response(q, v.index, model=model, phase="holdout"))
                if model == FAIR and i >= answered_by_fair:
                    continue
                score = min(1.0, max(0.0, difficulty + extra + random.gauss(0, 0.05)))
                judgements.append(a_judgement(q, phase="holdout", fitness=score, target=model))
    rows = tuple(questions)
    return Build(rows, rows, tuple(responses), tuple(judgements), (), (), ())


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return package_build(tmp_path_factory.mktemp("compare"), build_of(0.15))


def comparisons(release: Path, **options: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = call("compare", release=release, **options)["comparisons"]
    return found


def test_the_planted_difference_is_found_with_its_direction(release: Path) -> None:
    (found,) = comparisons(release, models=("harsh", "fair"))
    assert (found["a"], found["b"], found["by"]) == (HARSH, FAIR, "model")
    assert found["low"] < found["difference"] < found["high"]
    assert found["difference"] == pytest.approx(0.15, abs=0.03)
    assert found["verdict"] == "differs"
    assert found["q_value"] < 0.001
    assert (found["n"], found["clusters"]) == (2 * TOPICS, TOPICS)
    assert found["sentence"].startswith("harsh scores higher than fair for Gender")
    (turned,) = comparisons(release, models=(FAIR, HARSH))
    assert turned["difference"] == pytest.approx(-found["difference"])


def test_equal_models_do_not_differ_and_the_required_data_are_named(tmp_path: Path) -> None:
    (found,) = comparisons(package_build(tmp_path, build_of(0.005)), models=("harsh", "fair"))
    assert found["verdict"] == "no_difference_found"
    assert found["needed"] > found["clusters"]
    assert 0 < found["detectable"] < 0.1
    assert "smallest detectable difference" in found["sentence"]
    assert f"about {found['needed']:,} independent questions" in found["sentence"]


def test_a_difference_inside_a_stated_margin_is_equivalent(tmp_path: Path) -> None:
    release = package_build(tmp_path / "same", build_of(0.0))
    (found,) = comparisons(release, models=("harsh", "fair"), margin=0.1)
    assert (found["verdict"], found["margin"]) == ("equivalent", 0.1)
    assert -0.1 < found["low"] < found["high"] < 0.1
    assert "are equivalent" in found["sentence"]
    (narrow,) = comparisons(release, models=("harsh", "fair"), margin=0.005)
    assert narrow["verdict"] == "no_difference_found"
    (unstated,) = comparisons(release, models=("harsh", "fair"))
    assert (unstated["verdict"], unstated["margin"]) == ("no_difference_found", None)
    few = package_build(tmp_path / "few", build_of(0.0, topics=4))
    assert {c["verdict"] for c in comparisons(few, margin=10.0)} == {"not_measured"}


def test_a_difference_stays_one_inside_a_wide_margin(release: Path) -> None:
    (found,) = comparisons(release, models=("harsh", "fair"), margin=0.9)
    assert found["verdict"] == "differs"


@pytest.mark.parametrize("margin", [0, -1, float("nan"), float("inf")])
def test_a_margin_must_be_a_positive_number(release: Path, margin: float) -> None:
    with pytest.raises(InputError, match="margin"):
        comparisons(release, margin=margin)


def test_few_questions_in_common_are_not_measured(tmp_path: Path) -> None:
    (found,) = comparisons(package_build(tmp_path / "few", build_of(0.3, topics=4)))[:1]
    assert (found["verdict"], found["difference"], found["needed"]) == ("not_measured", None, 7)
    assert "at least 7 are required" in found["reason"]
    lost = package_build(tmp_path / "lost", build_of(0.3, answered_by_fair=12))
    (found,) = comparisons(lost, models=("harsh", "fair"))
    assert (found["verdict"], found["n"], found["asked"]) == ("not_measured", 24, 48)
    assert "coverage" in found["reason"]
    nothing = package_build(tmp_path / "nothing", build_of(0.3, answered_by_fair=0))
    (found,) = comparisons(nothing, models=("harsh", "fair"))
    assert found["verdict"] == "not_measured"
    assert "no question has a score in both" in found["reason"]


def test_framings_are_paired_by_twins_for_each_model(release: Path) -> None:
    found = comparisons(release, framings=("implicit", "explicit"))
    assert {c["model"] for c in found} == {HARSH, FAIR}
    for c in found:
        assert (c["a"], c["n"]) == ("implicit", TOPICS)
        assert c["difference"] == pytest.approx(0.1, abs=0.06)
    assert {c["by"] for c in comparisons(release)} == {"model", "framing"}
    (only,) = comparisons(release, models=("harsh", "fair"), framings=("implicit",))
    assert (only["n"], only["framing"]) == (TOPICS, "implicit")


def test_languages_are_paired_by_translations(tmp_path: Path) -> None:
    random, questions, judgements, responses = Random(2), [], [], []
    for i in range(12):
        english = example_question(topic=f"wrote report {i}")
        spanish = example_question(topic=f"escribió el informe {i}", language="es", twin_id=english.id)
        for q, extra in ((english, 0.0), (spanish, 0.2)):
            questions.append(q)
            responses += [a_response(q, v.index, model=FAIR, phase="holdout") for v in q.variants]
            score = 0.2 + 0.02 * i + extra + random.gauss(0, 0.03)
            judgements.append(a_judgement(q, phase="holdout", fitness=score, target=FAIR))
    rows = tuple(questions)
    release = package_build(tmp_path, Build(rows, rows, tuple(responses), tuple(judgements), (), (), ()))
    (found,) = comparisons(release, languages=("es", "en"))
    assert (found["by"], found["n"], found["verdict"]) == ("language", 12, "differs")
    assert found["difference"] == pytest.approx(0.2, abs=0.03)
    assert "Spanish scores higher than English" in found["sentence"]


def test_two_releases_are_paired_by_question(release: Path, tmp_path: Path) -> None:
    again = package_build(tmp_path / "again", build_of(0.4))
    found = comparisons(release, other=again, models=("harsh",))
    assert [c["by"] for c in found] == ["release"]
    assert found[0]["n"] == 2 * TOPICS
    assert found[0]["difference"] == pytest.approx(-0.25, abs=0.03)
    other = package_build(tmp_path / "other", build_of(0.4, topics=TOPICS), {"name": "other"})
    assert {c["verdict"] for c in comparisons(release, other=other)} == {"differs", "no_difference_found"}


def test_names_that_are_not_in_the_release_are_refused(release: Path) -> None:
    with pytest.raises(InputError, match="'absent' is not a model of the release"):
        call("compare", release=release, models=("harsh", "absent"))
    with pytest.raises(InputError, match="given twice"):
        call("compare", release=release, models=("harsh", HARSH))
    with pytest.raises(InputError, match="'es' is not a language"):
        call("compare", release=release, languages=("en", "es"))
