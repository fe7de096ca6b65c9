"""A release opens only if every byte is unchanged."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from schemas.answers import JUDGEMENTS
from schemas.errors import InputError
from schemas.question import QUESTIONS
from tasks.judges.panel import signed_scores
from tasks.release import derive_canary, find_last_release, open_release
from tasks.release.fitness import select_fitness_form
from tasks.report.groups import judge_agreement, measure_order_effects


@pytest.fixture
def copy(small_release: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_release, tmp_path / "0.1.0"))


def test_rows_come_back_without_the_canary(small_release: Path) -> None:
    release = open_release(small_release)
    assert len(release.contents.rows(QUESTIONS)) == release.manifest.rows["questions"] == 2
    assert release.manifest.canary == derive_canary("everyday-advice")


def test_figures_of_verdicts_need_no_details(small_release: Path) -> None:
    contents = open_release(small_release).contents
    full, slim = contents.rows(JUDGEMENTS), contents.verdicts
    assert slim
    assert [j.id for j in slim] == [j.id for j in full]
    assert not any(j.version_scores for j in slim)
    form = select_fitness_form(full)
    assert form
    for phase in ("search", "holdout"):
        assert signed_scores(slim, form, phase) == signed_scores(full, form, phase)
    assert judge_agreement(slim) == judge_agreement(full)
    assert measure_order_effects(slim) == measure_order_effects(full)


def test_rows_that_were_read_before_are_not_read_from_other_tables(small_release: Path) -> None:
    contents = open_release(small_release).contents
    questions = contents.rows(QUESTIONS)
    questions.clear()
    assert contents.rows(QUESTIONS)
    fewer = replace(contents, tables={QUESTIONS.name: contents.tables[QUESTIONS.name][:1]})
    assert len(fewer.rows(QUESTIONS)) == 1


def test_changed_file_is_named(copy: Path) -> None:
    (copy / "README.md").write_text("another card")
    with pytest.raises(InputError, match=r"README\.md is not the file that was released"):
        open_release(copy)


def test_missing_file_is_named(copy: Path) -> None:
    (copy / "CANARY.md").unlink()
    with pytest.raises(InputError, match=r"lacks CANARY\.md"):
        open_release(copy)


def test_file_that_does_not_belong_is_named(copy: Path) -> None:
    (copy / "data" / "questions" / "extra.parquet").write_bytes(b"")
    with pytest.raises(InputError, match=r"extra\.parquet does not belong"):
        open_release(copy)


def test_hidden_files_of_a_download_are_let_be(copy: Path) -> None:
    (copy / ".gitattributes").write_text("*.parquet filter=lfs")
    assert open_release(copy).manifest.version == "0.1.0"


def test_other_directory_is_not_a_release(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a release"):
        open_release(tmp_path)


def test_manifest_that_was_edited_is_explained(copy: Path) -> None:
    manifest = (copy / "manifest.json").read_text()
    (copy / "manifest.json").write_text(manifest.replace('"seed"', '"sead"'))
    with pytest.raises(InputError, match="manifest cannot be read"):
        open_release(copy)


def test_manifest_cannot_point_outside(copy: Path) -> None:
    manifest = (copy / "manifest.json").read_text()
    (copy / "manifest.json").write_text(manifest.replace('"CANARY.md"', '"../CANARY.md"'))
    (copy.parent / "CANARY.md").write_bytes((copy / "CANARY.md").read_bytes())
    with pytest.raises(InputError, match=r"'\.\./CANARY\.md' is not the path of a file inside"):
        open_release(copy)


def test_last_release_is_the_highest_version_not_the_last_by_name(tmp_path: Path) -> None:
    for version in ("0.9.0", "0.10.0", ".0.11.0.half", "notes"):
        (tmp_path / "line" / version).mkdir(parents=True)
        (tmp_path / "line" / version / "manifest.json").write_text("{}")
    (tmp_path / "line" / "1.0.0").mkdir()
    found = find_last_release(tmp_path, "line")
    assert found is not None
    assert Path(found.path).name == "0.10.0"
    assert find_last_release(tmp_path, "another") is None
