"""Programs without knowledge of this project read a release, and find the content of card and manifest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
import yaml
from datasets import Features
from huggingface_hub import DatasetCard, constants

from tasks.release import CONFIGS, QUESTION_CONFIGS, config_file, read_manifest
from tests.servers.hub_server import HubServer
from tests.tasks.publish.publishing import short_wait_client

Records = list[dict[str, Any]]
ABSENT = "{name} is not installed: it is an extra of the development environment"


def with_pandas(path: Path) -> tuple[list[str], Records]:
    import pandas as pd

    frame = pd.read_parquet(path)
    return list(frame.columns), frame.to_dict("records")  # type: ignore[return-value]


def with_polars(path: Path) -> tuple[list[str], Records]:
    polars = pytest.importorskip("polars", reason=ABSENT.format(name="polars"))
    frame = polars.read_parquet(path)
    return frame.columns, frame.to_dicts()


def with_duckdb(path: Path) -> tuple[list[str], Records]:
    duckdb = pytest.importorskip("duckdb", reason=ABSENT.format(name="duckdb"))
    found = duckdb.execute("SELECT * FROM read_parquet(?)", [str(path)])
    names = [column[0] for column in found.description]
    return names, [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def with_arrow_datasets(path: Path) -> tuple[list[str], Records]:
    table = pa.dataset.dataset(path, format="parquet").to_table()
    return table.column_names, table.to_pylist()


READERS: dict[str, Callable[[Path], tuple[list[str], Records]]] = {
    "pandas": with_pandas,
    "polars": with_polars,
    "duckdb": with_duckdb,
    "arrow datasets": with_arrow_datasets,
}


@pytest.mark.parametrize("reader", READERS)
def test_every_config_is_read_with_all_its_rows_and_columns(reader: str, small_release: Path) -> None:
    rows = read_manifest(small_release).rows
    for config in CONFIGS:
        path = small_release / config_file(config)
        names, records = READERS[reader](path)
        assert names == pq.read_schema(path).names, config
        assert len(records) == rows[config], config


@pytest.mark.parametrize("reader", READERS)
def test_nested_values_are_read_unchanged(reader: str, small_release: Path) -> None:
    path = small_release / config_file("questions")
    _, records = READERS[reader](path)
    for found, written in zip(records, pq.read_table(path).to_pylist(), strict=True):
        assert [v["text"] for v in found["variants"]] == [v["text"] for v in written["variants"]]
        assert [list(v["slots"]) for v in found["variants"]] == [v["slots"] for v in written["variants"]]
        assert [o["role"] for o in found["options"]] == [o["role"] for o in written["options"]]
        assert list(found["values"]) == written["values"]
        assert found["canary"] == written["canary"]


def test_a_question_is_joined_with_its_answers_in_sql(small_release: Path) -> None:
    duckdb = pytest.importorskip("duckdb", reason=ABSENT.format(name="duckdb"))
    asked, answers = (str(small_release / config_file(c)) for c in ("questions", "responses"))
    (found,) = duckdb.execute(
        "SELECT count(*) FROM read_parquet(?) r JOIN read_parquet(?) q ON r.question_id = q.id",
        [answers, asked],
    ).fetchone()
    ids = {row["id"] for row in pq.read_table(asked).to_pylist()}
    assert found == sum(r["question_id"] in ids for r in pq.read_table(answers).to_pylist()) > 0


def test_features_of_card_and_file_are_one(large_release: Path) -> None:
    card = DatasetCard.load(large_release / "README.md").data.to_dict()
    infos = {info["config_name"]: info for info in card["dataset_info"]}
    for config, info in infos.items():
        schema = pq.read_schema(large_release / config_file(config))
        assert Features._from_yaml_list(info["features"]) == Features.from_arrow_schema(schema), config
        without = schema.remove_metadata()
        assert Features.from_arrow_schema(without).arrow_schema.remove_metadata() == without, config
    assert set(infos) == {c for c in CONFIGS if pq.read_metadata(large_release / config_file(c)).num_rows}
    assert {c for c in infos if "canary" in str(infos[c]["features"])} == set(QUESTION_CONFIGS)


def test_manifest_counts_the_rows_of_the_files(large_release: Path) -> None:
    rows = read_manifest(large_release).rows
    assert rows == {c: pq.read_metadata(large_release / config_file(c)).num_rows for c in CONFIGS}


def test_card_passes_the_hubs_own_validation(
    large_release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = DatasetCard.load(large_release / "README.md")
    with HubServer(tmp_path) as hub, short_wait_client():
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        card.validate()
        assert [r.path for r in hub.requests] == ["/api/validate-yaml"]
    assert DatasetCard(str(card)).content == card.content  # reads the file that it would write
    assert yaml.safe_load(card.data.to_yaml())["license"] == "cc-by-4.0"
