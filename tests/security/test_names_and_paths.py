"""Names from a manifest never lead out of a folder, and links are no files of a release."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import InputError
from tasks.files.readers import read_language_rules
from tasks.publish import verify
from tasks.release import find_last_release, open_release, read_manifest
from tasks.run.paths import inside
from tests.conftest import DATA
from tests.security.hostile import change_manifest, copy_release

NAMES = (
    "../../x",
    "/etc/x",
    "..",
    ".",
    "",
    "a/b",
    "a\\b",
    "a\0b",
    "A",
    "é",
    "a" * 65,
    "-a\n",
    "a\n",
    ".hidden",
)
VERSIONS = (
    "../1",
    "1.0",
    "1.0.0/..",
    "١.٠.٠",
    "1.0.0\n",
    "1.0.٠",
    "01.0.0",
    "1.0.0-rc1",
    "9" * 5000 + ".0.0",
    "",
)
FILES = (
    "../x",
    "/etc/passwd",
    "a/../../x",
    "a//b",
    "./a",
    "a\\..\\b",
    "a\0b",
    "a\nb",
    "",
    ".",
    "a/",
    "x" * 600,
)


@pytest.fixture
def copy(small_release: Path, tmp_path: Path) -> Path:
    return copy_release(small_release, tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_name_of_a_release_is_a_slug(copy: Path, name: str) -> None:
    change_manifest(copy, lambda m: m.update(name=name))
    with pytest.raises(InputError, match="the manifest cannot be read: name"):
        read_manifest(copy)


@pytest.mark.parametrize("version", VERSIONS)
def test_version_is_three_ascii_numbers(copy: Path, version: str) -> None:
    change_manifest(copy, lambda m: m.update(version=version))
    with pytest.raises(InputError, match="the manifest cannot be read: version"):
        read_manifest(copy)


@pytest.mark.parametrize("version", ["../..", "/etc", "1.0.0/../..", ""])
def test_earlier_versions_are_no_paths(copy: Path, version: str) -> None:
    for change in ({"old_version": version}, {"new_version": version}):
        change_manifest(copy, lambda m, change=change: m["comparison"].update(change))
        with pytest.raises(InputError, match="the manifest cannot be read: comparison"):
            read_manifest(copy)


@pytest.mark.parametrize("file", FILES)
def test_files_of_a_manifest_are_inside_the_release(copy: Path, file: str) -> None:
    change_manifest(copy, lambda m: m["files"].update({file: "0" * 64}))
    with pytest.raises(InputError, match="the manifest cannot be read: files"):
        read_manifest(copy)
    assert not verify(str(copy)).verified


@pytest.mark.parametrize("rows", [{"../x": 1}, {"questions": -1}, {"questions": 10**30}, {"q" * 99: 1}])
def test_tables_of_a_manifest_have_plain_names_and_counts(copy: Path, rows: dict[str, Any]) -> None:
    change_manifest(copy, lambda m: m.update(rows=rows))
    with pytest.raises(InputError, match="the manifest cannot be read: rows"):
        read_manifest(copy)


@pytest.mark.parametrize(
    "parts", [("..",), ("a", "..", "b"), ("/etc",), ("",), ("a\0",), (".",), ("a", "../../../x")]
)
def test_path_from_data_stays_inside_its_root(tmp_path: Path, parts: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="is not a path inside"):
        inside(tmp_path, *parts)


def test_link_below_the_root_does_not_lead_out(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path)
    with pytest.raises(InputError, match="is not a path inside"):
        inside(tmp_path / "root", "link", "x")
    assert inside(tmp_path / "root", "a", "1.0.0") == tmp_path / "root" / "a" / "1.0.0"


@pytest.mark.parametrize("name", ["../x", "/etc", ".."])
def test_last_release_of_a_name_that_is_a_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="is not a path inside"):
        find_last_release(tmp_path, name)


@pytest.mark.parametrize("language", ["../readers/en", "/etc/passwd", "en/../en", "en\0", ".."])
def test_language_of_a_row_is_no_path(language: str) -> None:
    assert not read_language_rules(DATA, language).is_known


@pytest.mark.parametrize("name", ["CHANGELOG.md", "README.md", "data", "manifest.json"])
def test_links_are_no_files_of_a_release(copy: Path, tmp_path: Path, name: str) -> None:
    moved = tmp_path / "moved"
    os.rename(copy / name, moved)
    (copy / name).symlink_to(moved)
    with pytest.raises(InputError):
        open_release(copy)
    result = verify(str(copy))
    assert not result.verified
    assert any(line.startswith(name) for line in result.differences)


def test_pipe_and_unlisted_link_are_reported(copy: Path) -> None:
    os.mkfifo(copy / "pipe")
    (copy / "evals" / "link").symlink_to("/etc/passwd")
    lines = verify(str(copy)).differences
    assert [line.split(":")[0] for line in lines] == ["evals/link", "pipe"]
