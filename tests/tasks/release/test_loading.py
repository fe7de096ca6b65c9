"""A downloaded release loads offline with its original types."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import yaml
from huggingface_hub import DatasetCard

from tasks.release import CONFIGS, config_file, dataset_features, to_release_table

LOAD = """
import json, sys
from datasets import get_dataset_config_names, load_dataset
release = sys.argv[1]
found = {}
for config in get_dataset_config_names(release):
    rows = load_dataset(release, config, split="test")
    found[config] = [rows.num_rows, rows.features._to_yaml_list()]
found["default"] = load_dataset(release)["test"].num_rows
print(json.dumps(found))
"""


def test_every_config_loads_offline_with_its_features(large_release: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(large_release)],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    loaded = yaml.safe_load(done.stdout)
    filled = {c: pq.read_metadata(large_release / config_file(c)).num_rows for c in CONFIGS}
    assert [config for config, rows in filled.items() if not rows] == ["retired"]  # of a first release
    for config, expected in filled.items():
        if not expected:
            continue
        rows, features = loaded[config]
        assert rows == expected, config
        assert features == dataset_features(config)._to_yaml_list(), config
    assert loaded["default"] == loaded["questions"][0]


def test_empty_config_keeps_its_columns(tmp_path: Path) -> None:
    from tasks.release import write_parquet

    for config, table in CONFIGS.items():
        path = tmp_path / f"{config}.parquet"
        write_parquet(path, to_release_table(config, table.to_arrow([]), "canary"))
        rows = pq.read_table(path)
        assert rows.num_rows == 0
        assert rows.schema.names[: len(table.arrow_schema)] == table.arrow_schema.names
        assert rows.schema.field(0).type == table.arrow_schema.field(0).type


def test_parquet_has_pages_that_can_be_found_and_is_compressed(large_release: Path) -> None:
    file = pq.ParquetFile(large_release / config_file("responses"))
    column = file.metadata.row_group(0).column(0)
    assert column.compression == "ZSTD"
    assert column.has_offset_index
    assert column.has_column_index
    assert b"huggingface" in file.schema_arrow.metadata


def test_card_is_one_that_the_hub_can_read(large_release: Path) -> None:
    card = DatasetCard.load(large_release / "README.md")
    data = card.data.to_dict()
    assert data["license"] == "cc-by-4.0"
    assert data["language"] == ["en"]
    assert data["configs"][0] == {
        "config_name": "questions",
        "default": True,
        "data_files": [{"split": "test", "path": config_file("questions")}],
    }
    for info in data["dataset_info"]:
        rows = pq.read_metadata(large_release / config_file(info["config_name"])).num_rows
        assert info["splits"][0]["num_examples"] == rows
