"""Remove old runs, downloads and the cache, and refuse addresses of object storage."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

import pytest

from flows.options import read_options
from flows.prune import run_prune
from flows.workspace import open_workspace
from schemas.errors import InputError
from schemas.options import (
    BuildOptions,
    DeduplicateOptions,
    EvaluateOptions,
    PruneOptions,
    RefreshOptions,
)

DAY = 86_400


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COUNTERFOIL_HOME", str(tmp_path))
    ages = {"new": 1, "old": 40, "older": 50, "waiting": 60, "busy": 60, ".prefect": 90}
    for name, days in ages.items():
        write(tmp_path / "runs" / name / "journal.jsonl", days)
    write(tmp_path / "runs" / "waiting" / "waiting.json", 60)
    write(tmp_path / "runs" / "busy" / ".lock", 60)
    write(tmp_path / "cache" / "hub" / "org" / "name" / "v1" / "manifest.json", 40)
    write(tmp_path / "cache" / "answers.sqlite", 40)
    write(tmp_path / "releases" / "mine" / "0.1.0" / "manifest.json", 400)
    return tmp_path


def write(path: Path, days: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("12345")
    then = time.time() - days * DAY
    os.utime(path, (then, then))


def names(home: Path, result: dict[str, object]) -> set[str]:
    removed = result["removed"]
    assert isinstance(removed, list)
    return {str(Path(path).relative_to(home)) for path in removed}


def test_old_things_are_removed_and_running_or_waiting_runs_are_not(home: Path) -> None:
    with (home / "runs" / "busy" / ".lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        options = PruneOptions(older_than="30d")
        planned = run_prune(options.model_copy(update={"dry_run": True}))
        assert (home / "runs" / "old").exists()
        done = run_prune(options)
    expected = {"runs/old", "runs/older", "cache/hub/org/name/v1", "cache/answers.sqlite"}
    assert names(home, planned) == names(home, done) == expected
    assert done["bytes"] == planned["bytes"] == 4 * 5
    assert not (home / "runs" / "old").exists()
    assert (home / "runs" / "busy").exists()
    assert (home / "releases" / "mine" / "0.1.0" / "manifest.json").exists()


def test_keep_leaves_the_newest(home: Path) -> None:
    (home / "runs" / "busy" / ".lock").unlink()
    done = run_prune(PruneOptions(keep=2))
    assert names(home, done) == {"runs/older", "runs/busy"}


def test_without_a_limit_nothing_is_removed(home: Path) -> None:
    with pytest.raises(InputError, match="older-than"):
        run_prune(PruneOptions())


@pytest.mark.parametrize("scheme", ["s3", "gs", "az", "abfs", "memory"])
def test_addresses_of_storage_are_refused(
    scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    address = f"{scheme}://bucket/x"
    for model, values in (
        (BuildOptions, {"recipe": "quickstart", "out": Path(address)}),
        (DeduplicateOptions, {"input": "x.jsonl", "text": "t", "out": Path(address)}),
        (RefreshOptions, {"recipe": address}),
        (EvaluateOptions, {"release": "r", "model": "openai:m", "out": address}),
    ):
        with pytest.raises(InputError, match=f"{scheme}://bucket/x"):
            read_options(model, values)
    monkeypatch.setenv("COUNTERFOIL_HOME", address)
    with pytest.raises(InputError, match="COUNTERFOIL_HOME"):
        open_workspace()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", ["data/recipes", "/tmp/x", "C:/data", "org/name@v1.0.0", "a:b"])
def test_paths_are_not_taken_for_addresses(place: str) -> None:
    assert read_options(BuildOptions, {"recipe": "quickstart", "out": place}).out is not None
