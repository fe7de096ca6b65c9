"""The flow that deployments run does what the command does."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from flows.relabel import relabel
from tests.conftest import DATA, PROJECT


def test_flow_cleans_a_set_like_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUNTERFOIL_HOME", str(tmp_path / "home"))
    examples, out = DATA / "examples", tmp_path / "clean.jsonl"
    found = relabel.fn(str(examples / "retrieval.jsonl"), str(out), truth=str(examples / "retrieval.qrels"))
    assert found["rows"] == found["written"] == 16
    assert found["relabel_precision"]["value"] is not None
    assert out.is_file()


def test_every_parameter_of_the_form_is_described() -> None:
    assert all("description" in p for p in relabel.prefect().parameters.model_dump()["properties"].values())


def test_deployment_names_parameters_that_the_flow_has() -> None:
    deployments = yaml.safe_load((PROJECT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
    (found,) = [d for d in deployments if d["name"] == "relabel"]
    assert set(found["parameters"]) <= set(relabel.prefect().parameters.model_dump()["properties"])
    assert found["entrypoint"] == "flows/deployed.py:relabel"
