"""Refusals of the machine are reported before any work, with the place and the next step."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import counterfoil
from flows import machine
from flows.cli.errors import machine_error
from flows.machine import check_folder, check_machine
from flows.outputs import Outputs, check_targets
from schemas.errors import MachineError
from tests.security.commands import run_here
from tests.servers.openai_server import OpenAIServer, smallest_instance

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


def test_home_that_cannot_be_made(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert run_here(monkeypatch, tmp_path / "file" / "home", "relabel", source) == 8
    error = capsys.readouterr().err
    assert "COUNTERFOIL_HOME" in error
    assert "Traceback" not in error


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[Path]:
    """Mount a file system of this size. Skip the test if this process may not."""
    place.mkdir()
    if shutil.which("mount") is None or os.geteuid() != 0:
        pytest.skip("only root may mount a file system")
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], check=False)
    if done.returncode:
        pytest.skip("this machine mounts no file system")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=False)


def fill(place: Path) -> None:
    """Write until the disk is full."""
    with suppress(OSError), (place / "ballast").open("wb", buffering=0) as ballast:
        while True:
            ballast.write(b"x" * 65_536)


def check_refused(done: subprocess.CompletedProcess[str], place: Path) -> None:
    assert done.returncode == 8, done.stderr
    assert "Traceback" not in done.stderr
    assert "next:" in done.stderr
    assert str(place) in done.stderr


def test_read_only_home(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with small_disk(tmp_path / "home", "100m") as home:
        subprocess.run(["mount", "-o", "remount,ro", home], check=True)
        assert run_here(monkeypatch, home, "relabel", source) == 8
        error = capsys.readouterr().err
        assert "Traceback" not in error
        assert "next:" in error
        assert str(home) in error
        assert "Read-only file system" in error


@pytest.mark.skipif(
    not hasattr(os, "setreuid") or os.geteuid() != 0, reason="only root may become another user"
)
def test_home_of_somebody_else(source: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(mode=0o700)
    code = (
        "import os, sys; from pathlib import Path; from flows.machine import check_machine; "
        "os.setreuid(65534, 65534); check_machine('relabel', Path(sys.argv[1]))"
    )
    place = tmp_path / "home" / "inner"
    done = subprocess.run([sys.executable, "-c", code, place], capture_output=True, text=True, check=False)
    assert "MachineError" in done.stderr
    assert "Permission denied" in done.stderr


@pytest.mark.slow
def test_small_disk_is_named_at_the_start(source: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "5m") as disk:
        for arguments, home in (
            (("relabel", source), disk / "home"),
            (("relabel", source, "--out", disk / "out.jsonl"), tmp_path / "home"),
            (("build", "quickstart", "--out", disk / "releases"), tmp_path / "home"),
        ):
            done = run(*arguments, home=home)
            check_refused(done, disk)
            assert "MB are free on this disk" in done.stderr


@pytest.mark.slow
def test_disk_that_fills_while_a_table_is_written(tmp_path: Path) -> None:
    chance = random.Random(1)
    rows = {
        "text": [f"text {n}" for n in range(900)],
        "scan": [chance.randbytes(100_000) for _ in range(900)],
    }
    pq.write_table(pa.table(rows), tmp_path / "in.parquet")
    with small_disk(tmp_path / "disk", "66m") as disk:
        out = disk / "out"
        done = run(
            "deduplicate", tmp_path / "in.parquet", "--text", "text", "--out", out, home=tmp_path / "home"
        )
        check_refused(done, disk)
        assert "No space left on device" in done.stderr
        assert not list(disk.rglob("*.parquet"))  # nothing half-written is left


@pytest.mark.slow
def test_disk_that_fills_while_a_model_answers(source: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "80m") as disk:

        def answer(messages: Any, body: Any) -> Any:
            fill(disk)
            return smallest_instance(body["response_format"]["json_schema"]["schema"])

        with OpenAIServer(answer) as server:
            judge = server.model("judge")
            arguments = ("relabel", source, "--judge", judge, "--free", judge, "--out", disk / "out.jsonl")
            done = run(*arguments, home=disk / "home")
        check_refused(done, disk)
        assert not (disk / "out.jsonl").exists()


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


@pytest.mark.parametrize(
    "arguments",
    [
        ("recipe", "--explain"),
        pytest.param(("show", "RELEASE"), marks=pytest.mark.slow),
        pytest.param(("show", "RELEASE", "--json"), marks=pytest.mark.slow),
    ],
)
def test_reader_of_the_output_may_end_first(
    arguments: tuple[str, ...], small_release: Path, tmp_path: Path
) -> None:
    read, write = os.pipe()
    os.close(read)
    chosen = [small_release if part == "RELEASE" else part for part in arguments]
    done = run(*chosen, home=tmp_path / "home", stdout=write)
    os.close(write)
    assert done.returncode in (0, 3, 141), done.stderr
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


def test_closed_output_is_named(source: Path, tmp_path: Path) -> None:
    done = run("validate", source, home=tmp_path / "home", preexec_fn=lambda: os.close(1))
    assert done.returncode == 8, done.stderr
    assert "the standard output is closed" in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_output_is_named(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        done = run("recipe", "--json", home=tmp_path / "home", stdout=full)
    assert done.returncode == 8, done.stderr
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def test_python_api_checks_the_machine_as_well(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("COUNTERFOIL_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(MachineError, match="Not a directory"):
        counterfoil.relabel(source, format="auto")
