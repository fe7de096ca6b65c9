"""What the machine refuses is named before any work, with the place and the next step."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows import machine
from flows.cli.errors import machine_error
from flows.machine import check_folder, check_machine
from flows.outputs import Outputs, check_targets
from schemas.errors import MachineError

COUNTERFOIL = Path(sys.executable).with_name("counterfoil")
ROW = {"query": "who wrote it", "pos": ["She wrote it."], "neg": ["A river.", "It was written by her."]}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps(ROW) + "\n")
    return path


def run(*arguments: object, home: Path, **other: Any) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COUNTERFOIL_HOME": str(home)}
    defaults: dict[str, Any] = (
        {"capture_output": True} if "stdout" not in other else {"stderr": subprocess.PIPE}
    )
    return subprocess.run(
        [COUNTERFOIL, *map(str, arguments)],
        env=environment,
        text=True,
        timeout=120,
        check=False,
        **defaults | other,
    )


def limited(number: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (number, number))


def test_64_descriptors_are_too_few(source: Path, tmp_path: Path) -> None:
    done = run("relabel", source, "--out", tmp_path / "o.jsonl", home=tmp_path / "h", preexec_fn=limited(64))
    assert done.returncode == 8, done.stderr
    assert "only 64 files may be open at once" in done.stderr
    assert "ulimit -n 256" in done.stderr
    assert "Traceback" not in done.stderr


def test_low_soft_limit_is_raised(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    raised = []
    monkeypatch.setattr(machine.resource, "getrlimit", lambda _: (64, 1024))
    monkeypatch.setattr(machine.resource, "setrlimit", lambda _, limits: raised.append(limits))
    check_machine("build", tmp_path)
    assert raised == [(1024, 1024)]


def test_home_that_cannot_be_made(source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run("relabel", source, home=tmp_path / "file" / "home")
    assert done.returncode == 8, done.stderr
    assert "COUNTERFOIL_HOME" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_home(source: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(mode=0o500)
    assert run("relabel", source, home=tmp_path / "home").returncode == 8


def test_errors_of_the_folder_are_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(MachineError, match="No space left") as refused:
        check_folder(tmp_path)
    assert "free space" in str(refused.value.hint)


def test_almost_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1 << 20))  # type: ignore[attr-defined]
    for check in (check_folder, lambda folder: check_targets(Outputs((folder / "x",)))):
        with pytest.raises(MachineError, match="only 1 MB are free"):
            check(tmp_path)


def test_full_answer_cache_is_a_refusal_of_the_machine() -> None:
    error = machine_error(RuntimeError("(sqlite3.OperationalError) database or disk is full"))
    assert error is not None
    assert error.exit_code == 8


def test_reader_of_the_output_may_end_first(source: Path, tmp_path: Path) -> None:
    for arguments in (("recipe", "--explain"), ("validate", source), ("validate", source, "--json")):
        read, write = os.pipe()
        os.close(read)
        done = run(*arguments, home=tmp_path / "home", stdout=write)
        os.close(write)
        assert done.returncode in (0, 3, 141), done.stderr
        assert "Traceback" not in done.stderr
        assert "BrokenPipe" not in done.stderr


def test_closed_output_is_named(source: Path, tmp_path: Path) -> None:
    done = run("validate", source, home=tmp_path / "home", preexec_fn=lambda: os.close(1))
    assert done.returncode == 8, done.stderr
    assert "the standard output is closed" in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_output_is_named(source: Path, tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        done = run("validate", source, "--json", home=tmp_path / "home", stdout=full)
    assert done.returncode == 8, done.stderr
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
