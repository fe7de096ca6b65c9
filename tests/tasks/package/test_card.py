"""The card describes files, judges and warnings."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from schemas.gate import Finding, Quarantine
from schemas.release import ClearOf
from tasks.package.card import escape_markdown, size_category
from tasks.release import CONFIGS, config_file, open_release, read_manifest
from tests.release_fixtures import package_build
from tests.tasks.release.example import PASSED, a_judgement, a_response, example_question, small_build


def read(release: Path) -> tuple[dict[str, object], str]:
    _, matter, body = (release / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(matter), body


def test_row_counts_match_the_files(large_release: Path) -> None:
    _, body = read(large_release)
    rows_by_config = dict(re.findall(r"^\| `(\w+)` \|.*\| ([\d,]+) \|$", body, flags=re.MULTILINE))
    assert set(rows_by_config) == set(CONFIGS)
    for config, rows in rows_by_config.items():
        assert int(rows.replace(",", "")) == pq.read_metadata(large_release / config_file(config)).num_rows


def test_nothing_is_left_to_fill_in(large_release: Path) -> None:
    _, body = read(large_release)
    assert not re.search(r"\$[a-z_]+", body)


def test_free_text_answers_are_not_for_all_audiences(small_release: Path, tmp_path: Path) -> None:
    matter, _ = read(small_release)
    assert "not-for-all-audiences" in matter["tags"]  # type: ignore[operator]
    build = small_build()
    choices = tuple(r for r in build.responses if r.scoring != "free_text")
    matter, body = read(package_build(tmp_path, replace(build, responses=choices)))
    assert "not-for-all-audiences" not in matter["tags"]  # type: ignore[operator]
    assert "No free text written by a model" in body


def test_divergence_judge_is_described(tmp_path: Path) -> None:
    build = small_build()
    verdicts = tuple(
        a_judgement(q, judge="divergence", fitness=q.fitness, fitness_form="divergence")
        for q in build.standing
        if q.fitness is not None
    )
    _, body = read(package_build(tmp_path, replace(build, judgements=verdicts)))
    assert "No language model judged this release" in body
    assert "not whether the difference is harmful" in " ".join(body.split())


def test_missing_hold_out_is_admitted(small_release: Path, large_release: Path) -> None:
    assert "scores of selected questions are therefore likely to be too high" in read(small_release)[1]
    assert "on fresh samples." in read(large_release)[1]


def test_empty_configs_are_not_offered_for_loading(tmp_path: Path) -> None:
    matter, _ = read(package_build(tmp_path, replace(small_build(), history=())))
    names = [c["config_name"] for c in matter["configs"]]  # type: ignore[attr-defined]
    assert "label_history" not in names
    assert names[0] == "questions"


@pytest.mark.parametrize(
    ("rows", "name"), [(999, "n<1K"), (1_000, "1K<n<10K"), (99_999, "10K<n<100K"), (5_000_000, "1M<n<10M")]
)
def test_size_category(rows: int, name: str) -> None:
    assert size_category(rows) == name


def test_text_from_outside_cannot_be_markup() -> None:
    assert escape_markdown("a|b <b>*x*</b>\n# [y](z)") == r"a\|b \<b\>\*x\*\</b\> \# \[y\](z)"


def test_card_and_report_list_the_deduplicated_sources(tmp_path: Path) -> None:
    clear_of = [ClearOf(name="older-advice@1.0.0", compared=1200, overlapping=3)]
    release = package_build(tmp_path, small_build(), clear_of=clear_of)
    _, body = read(release)
    assert "compared with the 1,200 of older-advice@1.0.0: 3 of them" in " ".join(body.split())
    page = re.sub(r"<[^>]+>", "", (release / "report.html").read_text())
    assert "Compared with older-advice@1.0.0 (1,200 texts): 3" in page


def test_card_and_report_list_warnings_and_quarantined_questions(tmp_path: Path) -> None:
    evil = "answers <b>hold</b> links"
    warning = Finding(
        id="f", table="responses", column="text", check="personal_data_in_answer", severity="warning",
        message=evil, count=7, examples=("r_1",),
    )  # fmt: skip
    warned = PASSED.model_copy(update={"warnings": 1, "findings": (warning,)})
    taken = Quarantine(questions=90, failing=2, taken=2, limit=0.05, checks={"garbled_text": 2})
    release = package_build(tmp_path, small_build(), validation=warned, quarantine=taken)
    card = (release / "README.md").read_text(encoding="utf-8")
    report = (release / "report.html").read_text(encoding="utf-8")
    assert "2 of 90 questions failed a check" in " ".join(card.split())
    assert "7 rows" in card
    assert "<b>hold" not in card + report
    assert "garbled text: 2" in report
    assert "validation/index.html" in report
    assert read_manifest(release).warnings == (warning,)


def test_card_without_warnings_states_it(small_release: Path) -> None:
    card = " ".join((small_release / "README.md").read_text(encoding="utf-8").split())
    assert "nothing to warn of" in card
    assert "taken out" not in card


@pytest.mark.parametrize("repo", [None, "example/everyday-advice"])
def test_the_line_for_loading_works(
    tmp_path: Path, repo: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = package_build(tmp_path / "home", small_build(), {"release": {"repo": repo}})
    card = (release / "README.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^questions = (load_dataset\(.*\))$", card, re.MULTILINE)
    if repo:
        assert line == f'load_dataset("{repo}", "questions", split="test", revision="v{release.name}")'
        return
    from datasets import load_dataset

    monkeypatch.chdir(release)
    rows = eval(line, {"load_dataset": partial(load_dataset, cache_dir=str(tmp_path / "cache"))})
    assert rows.num_rows == open_release(release).manifest.rows["questions"]
    assert rows[0]["variants"]


def test_the_origin_of_the_questions_is_the_true_one(tmp_path: Path) -> None:
    imported = [example_question(topic=f"asked for advice on plan {i}", origin="imported") for i in range(3)]
    build = replace(
        small_build(),
        generated=tuple(imported),
        standing=tuple(imported),
        responses=tuple(a_response(q, v.index) for q in imported for v in q.variants),
        judgements=(),
        history=(),
        dropped=(),
    )
    card = (package_build(tmp_path, build) / "README.md").read_text(encoding="utf-8")
    assert "Questions: 3 from files of the recipe." in card
    assert "recombin" not in card
    assert "thompson" not in card
