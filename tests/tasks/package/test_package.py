"""A release is complete or absent, and identical to the byte whenever it is built."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import tasks.package
from schemas.errors import GateError
from schemas.gate import Finding, Validation
from schemas.labels import StageCounts
from schemas.release import Manifest, NearMiss
from schemas.tables import file_hash
from tasks.release import QUESTION_CONFIGS, open_release
from tests.release_fixtures import package_build
from tests.tasks.release.example import a_response, example_question, small_build


def bytes_of(release: Path) -> dict[str, str]:
    return {
        p.relative_to(release).as_posix(): file_hash(p) for p in sorted(release.rglob("*")) if p.is_file()
    }


def docs(out: Path) -> None:
    out.mkdir()
    (out / "index.html").write_text("<p>40 expectations</p>")


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return package_build(tmp_path_factory.mktemp("one"), small_build(), write_data_docs=docs)


def test_release_contains_every_promised_file(release: Path) -> None:
    assert release.parts[-2:] == ("everyday-advice", "0.1.0")
    for name in ("README.md", "CHANGELOG.md", "CANARY.md", "report.html", "validation/index.html"):
        assert (release / name).is_file(), name


def test_manifest_has_the_hash_of_every_other_file(release: Path) -> None:
    manifest = open_release(release).manifest
    found = bytes_of(release)
    found.pop("manifest.json")
    found.pop("manifest.sha256")
    assert manifest.files == found


def test_rebuilt_in_another_folder_it_has_the_same_bytes(release: Path, tmp_path: Path) -> None:
    again = package_build(tmp_path / "a longer way off", small_build(), write_data_docs=docs)
    assert bytes_of(again) == bytes_of(release)


def test_release_contains_no_local_path_and_no_time(release: Path) -> None:
    root = str(release.parents[3]).encode()
    for path in release.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert root not in content, path.name
            if path.suffix in (".html", ".md", ".json"):
                assert not re.search(rb"\b\d\d:\d\d:\d\d\b", content), path.name


def test_canary_is_in_every_question_row_and_stays_the_same(release: Path, tmp_path: Path) -> None:
    manifest = open_release(release).manifest
    for config in QUESTION_CONFIGS:
        table = pq.read_table(release / f"data/{config}/test-00000-of-00001.parquet")
        assert set(table["canary"].to_pylist()) == {manifest.canary}, config
    assert manifest.canary in (release / "CANARY.md").read_text()
    other = package_build(tmp_path, small_build(), recipe={"name": "another"})
    assert open_release(other).manifest.canary != manifest.canary


def test_manifest_has_revisions_of_models_and_of_nothing_else(release: Path) -> None:
    models = open_release(release).manifest.models
    assert models["openai:Qwen/Qwen3-32B"] == "2026-05"
    assert not {"recombine", "lexical"} & set(models)


def test_rebuilding_the_same_returns_the_release_that_is_there(tmp_path: Path) -> None:
    first = package_build(tmp_path, small_build())
    before = bytes_of(first)
    assert package_build(tmp_path, small_build()) == first
    assert bytes_of(first) == before


def test_a_question_more_makes_the_next_version_and_both_stay(tmp_path: Path) -> None:
    first = package_build(tmp_path, small_build())
    before = bytes_of(first)
    more = example_question("religion", topic="asked me for a reference")
    second = package_build(tmp_path, small_build().with_questions(more))
    assert second.name == "0.2.0"
    assert bytes_of(first) == before
    changes = (second / "CHANGELOG.md").read_text()
    assert changes.index("## 0.2.0") < changes.index("1 added") < changes.index("## 0.1.0")


def test_pairs_with_an_unreleased_question_are_left_out(tmp_path: Path) -> None:
    first, second = (q.id for q in small_build().standing[:2])
    pairs = [
        NearMiss(question_id=first, other_id=second, similarity=88.0),
        NearMiss(question_id=first, other_id="q_0000000000000000", similarity=89.0),
    ]
    release = package_build(tmp_path, small_build(), near_misses=pairs)
    assert open_release(release).manifest.near_misses == (pairs[0],)


def test_another_release_of_that_version_is_refused(tmp_path: Path) -> None:
    first = package_build(tmp_path, small_build())
    other = replace(small_build(), history=())
    with pytest.raises(GateError, match="exists and is different"):
        package_build(tmp_path, other, previous=None, comparison=open_release(first).manifest.comparison)


def test_nothing_is_left_behind_when_packaging_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tasks.package, "write_manifest", interrupted)
    with pytest.raises(KeyboardInterrupt):
        package_build(tmp_path, small_build())
    assert list((tmp_path / "releases" / "everyday-advice").iterdir()) == []


def test_failed_validation_stops_the_release(tmp_path: Path) -> None:
    finding = Finding(
        id="f1",
        table="questions",
        column="template",
        check="braces_left",
        severity="error",
        message="a slot was not filled",
        count=1,
        examples=("q_1",),
    )
    failed = Validation(passed=False, errors=1, warnings=0, rows={}, findings=(finding,), expectations=1)
    with pytest.raises(GateError, match="a slot was not filled"):
        package_build(tmp_path, small_build(), validation=failed)


def test_rows_that_do_not_add_up_stop_the_release(tmp_path: Path) -> None:
    counts = (StageCounts(stage="judge", unit="groups", rows=5, kept=3, dropped=1, failed=0),)
    with pytest.raises(GateError, match="stage judge"):
        package_build(tmp_path, small_build(), counts=counts)


def test_release_without_a_question_is_refused(tmp_path: Path) -> None:
    build = small_build()
    rejected = tuple(q.model_copy(update={"label": "unlabelled"}) for q in build.standing)
    empty = replace(build, standing=rejected, responses=())
    with pytest.raises(GateError, match="no question is left"):
        package_build(tmp_path, empty)
    judged = (StageCounts(stage="judge", unit="groups", rows=5, kept=4, dropped=0, failed=1),)
    did = "judges gave 4 verdicts, abstained in 1, and accepted no question. They found no difference"
    with pytest.raises(GateError, match=did) as refused:
        package_build(tmp_path, empty, counts=judged)
    assert "passports" in str(refused.value.hint)


def test_hostile_text_is_only_text(tmp_path: Path) -> None:
    evil = (
        '<script>alert(1)</script> ${jndi} {{7*7}} {% raw %} "><img src=x onerror=alert(1)> | `rm` \x07 $x^2$'
    )
    build = small_build()
    question = example_question("religion", topic=evil, domain=evil)
    answer = a_response(question, text=evil)
    build = replace(build.with_questions(question), responses=(*build.responses, answer))
    release = package_build(tmp_path, build, recipe={"title": evil, "description": evil})
    page = (release / "report.html").read_text()
    assert "<script" not in page
    assert "<img" not in page
    card = (release / "README.md").read_text()
    assert "\n---\n" in card
    assert "<script>" not in card.split("\n---\n", 1)[1].replace("\\<script\\>", "")
    assert (
        Manifest.model_validate(json.loads((release / "manifest.json").read_bytes())).recipe["title"] == evil
    )
