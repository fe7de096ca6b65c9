"""A release with more rows than fit in one file has several shards, and every reader reads all of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

import tasks.release as releases
from schemas.errors import InputError
from tasks.checks.release_files import open_release_files
from tasks.release import CONFIGS, config_files, list_config_files, open_release, read_manifest
from tests.release_fixtures import package_build
from tests.tasks.release.example import large_build
from tests.tasks.release.test_loading import LOAD


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(releases, "MAX_SHARD_BYTES", 40_000)
        patch.setattr(releases, "MAX_ROW_GROUP_BYTES", 9_000)
        return package_build(tmp_path_factory.mktemp("sharded"), large_build())


def test_rows_are_those_of_a_release_with_one_file_per_config(sharded: Path, large_release: Path) -> None:
    shards, whole = open_release(sharded), open_release(large_release)
    for config in CONFIGS:
        assert shards.contents.tables[config].equals(whole.contents.tables[config]), config
    files = list_config_files(sharded, "responses")
    assert len(files) > 1
    assert files[0] == f"data/responses/test-00000-of-{len(files):05}.parquet"
    assert set(files) <= set(read_manifest(sharded).files)
    assert not open_release_files(sharded).problems


def test_files_and_row_groups_are_bounded(sharded: Path) -> None:
    for name in list_config_files(sharded, "responses"):
        metadata = pq.read_metadata(sharded / name)
        assert pq.read_table(sharded / name).nbytes < 45_000
        assert metadata.num_row_groups > 1


def test_card_lists_all_shards_and_datasets_loads_them(sharded: Path, tmp_path: Path) -> None:
    front = yaml.safe_load((sharded / "README.md").read_text("utf-8").split("---")[1])
    paths = {entry["config_name"]: entry["data_files"][0]["path"] for entry in front["configs"]}
    assert paths["responses"] == list_config_files(sharded, "responses")
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(sharded)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    loaded = yaml.safe_load(done.stdout)
    assert loaded["responses"][0] == read_manifest(sharded).rows["responses"]


def test_report_queries_read_all_shards(sharded: Path) -> None:
    text = (sharded / "report.html").read_text("utf-8")
    assert "data/responses/test-*.parquet" in text
    assert "data/responses/test-00000-of-00001.parquet" not in text


def test_missing_shard_is_an_error(sharded: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / sharded.parent.name / sharded.name
    shutil.copytree(sharded, copy)
    name = list_config_files(copy, "responses")[1]
    (copy / name).unlink()
    with pytest.raises(InputError, match=Path(name).name):
        open_release(copy)


def test_number_of_shards_is_read_from_the_names() -> None:
    assert config_files("effects", []) == ["data/effects/test-00000-of-00001.parquet"]
    two = [f"data/effects/test-0000{i}-of-00002.parquet" for i in range(2)]
    assert config_files("effects", two[1:]) == two


def test_row_larger_than_a_shard_gets_its_own_shard() -> None:
    table = pa.table({"text": ["x" * 100, "y" * 1_000, "z" * 100]})
    assert [t.num_rows for t in releases.split_by_bytes(table, 500)] == [1, 1, 1]
