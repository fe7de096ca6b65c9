"""Prefect is private to a home, unless a person has set up a server of their own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flows.workspace import Workspace, quiet_prefect


@pytest.mark.parametrize("profile", [False, True])
def test_only_a_profile_makes_it_a_persons_own_prefect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, profile: bool
) -> None:
    monkeypatch.setattr(os, "environ", {"HOME": str(tmp_path)})
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".prefect").mkdir()  # Prefect creates it on every use
    if profile:
        (tmp_path / ".prefect" / "profiles.toml").write_text(
            'active = "mine"\n[profiles.mine]\nPREFECT_API_URL = "http://127.0.0.1:1/api"\n'
        )
    quiet_prefect(Workspace(vocabulary=tmp_path, home=tmp_path / "counterfoil"))
    assert ("PREFECT_HOME" in os.environ) is not profile
