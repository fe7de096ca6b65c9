"""Deployments: every entry in prefect.yaml is a flow of the project with a documented form."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import yaml

from tests.conftest import PROJECT

DEPLOYMENTS: list[dict[str, Any]] = yaml.safe_load((PROJECT / "prefect.yaml").read_text())["deployments"]


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda d: d["name"])
def test_entrypoint_is_a_flow_that_takes_these_parameters(deployment: dict[str, Any]) -> None:
    path, name = deployment["entrypoint"].split(":")
    flow = getattr(importlib.import_module(path.removesuffix(".py").replace("/", ".")), name)
    form = flow.parameters.properties
    assert set(deployment.get("parameters", {})) <= set(form)
    assert set(flow.parameters.required or []) <= set(deployment.get("parameters", {}))
    for parameter, field in form.items():
        assert field.get("description"), f"{name}({parameter}) says nothing on its form"


def test_no_deployment_takes_a_secret() -> None:
    for deployment in DEPLOYMENTS:
        assert not [p for p in deployment.get("parameters", {}) if "token" in p or "key" in p]
