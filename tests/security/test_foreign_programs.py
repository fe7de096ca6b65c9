"""Files of strangers name no program, and open no address: suites of expectations, metadata of tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.errors import InputError
from tasks.files.retrieval import Source, positive_label
from tasks.gate.own_suites import check_own_suites, read_own_suites

TABLE = {"questions": pa.table({"id": ["a", "b"], "rank": [1, 2]})}


def write_suite(folder: Path, **kwargs: Any) -> str:
    expectation = {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "id", **kwargs}}
    path = folder / "questions.json"
    path.write_text(json.dumps({"name": "own", "expectations": [expectation]}))
    return str(path)


@pytest.mark.parametrize(
    "condition",
    [
        "@pd.io.common.os.system('touch {place}') == 0",
        "@self.__class__ == 1",
        "id.__class__ == 1",
        "id.str.len() > 0",
        "rank == open('{place}', 'w')",
        "[x for x in rank] == rank",
        "rank == (lambda: 1)()",
        "(" * 500,
    ],
)
@pytest.mark.parametrize("parser", [{}, {"condition_parser": "pandas"}, {"condition_parser": None}])
def test_condition_of_a_suite_runs_no_program(tmp_path: Path, condition: str, parser: dict[str, Any]) -> None:
    place = tmp_path / "written"
    suite = write_suite(tmp_path, row_condition=condition.replace("{place}", str(place)), **parser)
    with pytest.raises(InputError, match="row_condition"):
        check_own_suites(read_own_suites([suite]), TABLE)
    assert not place.exists()


def test_schema_of_a_suite_opens_no_address(tmp_path: Path) -> None:
    suite = write_suite(tmp_path, json_schema={"properties": {"a": {"$ref": "http://127.0.0.1:9/x"}}})
    with pytest.raises(InputError, match="another document"):
        read_own_suites([suite])


@pytest.mark.slow
def test_ordinary_condition_of_a_suite_is_used(tmp_path: Path) -> None:
    condition = "`id` > 'A' and id in [\"a\", 'b'] and not id == 'c'"
    suite = write_suite(tmp_path, row_condition=condition, condition_parser="pandas")
    assert check_own_suites(read_own_suites([suite]), TABLE) == []


@pytest.mark.parametrize(
    "metadata",
    [b"[" * 200_000, b"[1]", b"null", b"\xff", b'{"info": 3}', b'{"info": {"features": {"label": 3}}}'],
)
def test_odd_metadata_of_a_table_has_no_effect(tmp_path: Path, metadata: bytes) -> None:
    table = pa.table({"sentence1": ["q"], "sentence2": ["p"], "label": [1]})
    path = tmp_path / "pairs.parquet"
    pq.write_table(table.replace_schema_metadata({b"huggingface": metadata}), path)
    assert positive_label(Source(path, "labeled-pair")) == 1
