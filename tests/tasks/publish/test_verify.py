"""`verify` recomputes the hashes of a release and names every file that differs on its own line."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.errors import InputError, PublishError
from schemas.release import Manifest
from schemas.tables import file_hash
from tasks.publish import publish, raise_if_different, verify
from tasks.release import config_file
from tests.release_fixtures import package_build
from tests.servers.hub_server import HubServer
from tests.tasks.publish.publishing import REPO, publisher, short_wait_client
from tests.tasks.release.example import small_build

QUESTIONS_FILE = config_file("questions")


@pytest.fixture(autouse=True, scope="module")
def _impatient() -> Iterator[None]:
    with short_wait_client():
        yield


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return package_build(tmp_path_factory.mktemp("packaged"), small_build())


@pytest.fixture
def copy(release: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(release, tmp_path / "copy"))


def sign_again(path: Path) -> None:
    """Write a manifest that lists the files as they are now."""
    place = path / "manifest.json"
    manifest = Manifest.model_validate_json(place.read_bytes())
    files = {name: file_hash(path / name) for name in manifest.files}
    place.write_text(manifest.model_copy(update={"files": files}).model_dump_json())
    (path / "manifest.sha256").write_text(f"{file_hash(place)}  manifest.json\n")


def rewrite(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    pq.write_table(change(pq.read_table(path / QUESTIONS_FILE)), path / QUESTIONS_FILE)
    sign_again(path)


def test_unchanged_release_verifies(release: Path) -> None:
    found = verify(str(release))
    assert (found.verified, found.differences) == (True, ())
    assert found.rows["questions"] == 2
    raise_if_different(found)


def test_every_file_that_differs_has_one_line(copy: Path) -> None:
    (copy / "README.md").write_text("another card")
    (copy / "CHANGELOG.md").unlink()
    (copy / "extra.txt").write_text("")
    content = (copy / QUESTIONS_FILE).read_bytes()
    (copy / QUESTIONS_FILE).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    found = verify(str(copy))
    for name in ("README.md", "CHANGELOG.md", "extra.txt"):
        assert sum(line.startswith(f"{name}:") for line in found.differences) == 1
    assert any(line.startswith(QUESTIONS_FILE) for line in found.differences)
    with pytest.raises(PublishError) as refused:
        raise_if_different(found)
    assert refused.value.exit_code == 6


def test_manifest_is_protected_by_its_hash(copy: Path) -> None:
    place = copy / "manifest.json"
    assert (copy / "manifest.sha256").read_text() == f"{file_hash(place)}  manifest.json\n"
    place.write_bytes(place.read_bytes() + b" ")
    expected = "manifest.json: it is not the manifest whose hash is in manifest.sha256"
    assert verify(str(copy)).differences == (expected,)
    (copy / "manifest.sha256").unlink()  # releases of earlier versions have none
    assert verify(str(copy)).verified


def test_row_that_went_is_noticed_under_a_manifest_that_was_signed_again(copy: Path) -> None:
    rewrite(copy, lambda table: table.slice(1))
    assert any("number of rows" in line for line in verify(str(copy)).differences)


def test_canary_that_went_is_noticed(copy: Path) -> None:
    rewrite(copy, lambda table: table.drop_columns(["canary"]))
    lines = verify(str(copy)).differences
    assert any("canary" in line for line in lines)
    assert any("columns are not those of the card" in line for line in lines)


def test_column_of_another_type_is_noticed(copy: Path) -> None:
    def wider(table: pa.Table) -> pa.Table:
        at = table.schema.get_field_index("round")
        return table.set_column(at, "round", table["round"].cast(pa.float64()))

    rewrite(copy, wider)
    lines = [line for line in verify(str(copy)).differences if line.startswith(QUESTIONS_FILE)]
    assert len(lines) == 1
    assert "columns" in lines[0]


def test_published_release_is_verified_from_the_hub(release: Path, tmp_path: Path) -> None:
    with HubServer(tmp_path) as hub:
        done = publish(release, REPO, publisher(hub))
        found = verify(f"{REPO}@v0.1.0", lambda: publisher(hub))
        assert (found.verified, found.commit) == (True, done.commit)
        changed = hub.edit(REPO, "report.html", b"<p>another report</p>")
        hub.repos[REPO].tags |= {"edited": changed, "v2.0.0": done.commit}
        edited = verify(f"{REPO}@edited", lambda: publisher(hub))
        assert [line.split(":")[0] for line in edited.differences] == ["report.html"]
        moved = verify(f"{REPO}@v2.0.0", lambda: publisher(hub))
        assert moved.differences == ("manifest.json: it is the manifest of 0.1.0, not of v2.0.0",)


@pytest.mark.parametrize("place", ["nowhere", "org/name@v1.0.0/x"])
def test_place_without_a_release_is_reported(place: str) -> None:
    with pytest.raises(InputError, match="does not exist"):
        verify(place)
