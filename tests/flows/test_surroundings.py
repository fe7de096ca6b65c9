"""Commands in unusual surroundings: they work, or end with a clear error. Never with a traceback."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.conftest import PROJECT

COUNTERFOIL = Path(sys.executable).with_name("counterfoil")
PLAN = ("plan", "quickstart")
BUILD = ("build", "quickstart")
DEDUPLICATE = ("deduplicate", "data/examples/retrieval.jsonl", "--text", "Straße", "--out", "/nowhere/x")


def run(
    arguments: tuple[str, ...], environment: Mapping[str, str], folder: Path = PROJECT
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(COUNTERFOIL), *arguments],
        env=dict(environment),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=240,
        stdin=subprocess.DEVNULL,
    )


def own(tmp_path: Path, **changes: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return {**kept, "COUNTERFOIL_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1", **changes}


def unused_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def profile(tmp_path: Path) -> str:
    home = tmp_path / "prefect"
    home.mkdir()
    address = f"http://127.0.0.1:{unused_port()}/api"
    (home / "profiles.toml").write_text(f'active = "c"\n[profiles.c]\nPREFECT_API_URL = "{address}"\n')
    return str(home)


def file_in_place_of_a_folder(tmp_path: Path) -> str:
    (tmp_path / "file").write_text("")
    return str(tmp_path / "file")


BARE = {"PATH": "/usr/bin:/bin"}


@pytest.mark.parametrize(
    ("arguments", "changes", "code", "words"),
    [
        pytest.param(BUILD, lambda t: own(t, PREFECT_API_URL="http://127.0.0.1:9/api"), 2, "no Prefect server", id="dead server"),  # noqa: E501
        pytest.param(BUILD, lambda t: own(t, PREFECT_API_URL="nonsense"), 2, "no Prefect server", id="no address"),  # noqa: E501
        pytest.param(BUILD, lambda t: own(t, PREFECT_HOME=profile(t)), 2, "no Prefect server", id="dead profile"),  # noqa: E501
        pytest.param(BUILD, lambda t: own(t, COUNTERFOIL_HOME="/proc/nowhere"), 8, "COUNTERFOIL_HOME", id="unwritable home"),  # noqa: E501
        pytest.param(BUILD, lambda t: own(t, COUNTERFOIL_HOME=file_in_place_of_a_folder(t)), 8, "COUNTERFOIL_HOME", id="home is a file"),  # noqa: E501
        pytest.param(BUILD, lambda t: own(t, COUNTERFOIL_HOME="s3://bucket/x"), 2, "object storage", id="home is an address"),  # noqa: E501
        pytest.param(PLAN, lambda t: BARE | {"COUNTERFOIL_HOME": str(t)}, 0, "", id="no HOME"),
        pytest.param(PLAN, lambda _: {}, 0, "", id="env -i"),
        pytest.param(PLAN, lambda t: own(t, LANG="C", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0"), 0, "", id="LANG=C"),  # noqa: E501
        pytest.param(PLAN, lambda t: own(t, PYTHONIOENCODING="ascii"), 0, "", id="ASCII output"),
        pytest.param(DEDUPLICATE, lambda t: own(t, LANG="C", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0"), 2, "PYTHONUTF8=1", id="names in ASCII"),  # noqa: E501
        pytest.param(DEDUPLICATE, lambda t: own(t, LANG="C"), 2, "no column 'Straße'", id="names in UTF-8"),
        pytest.param(("build", "\udcff"), own, 2, "recipe is not UTF-8", id="byte that is not UTF-8"),
        pytest.param(BUILD, lambda t: own(t, COUNTERFOIL_HOME=f"{t}/\udcff"), 2, "COUNTERFOIL_HOME is not UTF-8", id="home that is not UTF-8"),  # noqa: E501
        pytest.param(PLAN, lambda t: own(t, PREFECT_API_URL="http://127.0.0.1:9/api"), 0, "", id="plan, dead server"),  # noqa: E501
    ],
)  # fmt: skip
def test_surroundings(tmp_path: Path, arguments, changes, code: int, words: str) -> None:  # type: ignore[no-untyped-def]
    done = run(arguments, changes(tmp_path))
    assert "Traceback" not in done.stderr
    assert done.returncode == code, done.stderr
    assert words in done.stderr


@pytest.mark.slow
def test_a_newer_database_of_prefect_is_explained(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "prefect").mkdir(parents=True)
    with sqlite3.connect(home / "prefect" / "prefect.db") as database:
        database.execute("create table alembic_version (version_num varchar(32))")
        database.execute("insert into alembic_version values ('ffffffffffff')")
    done = run((*BUILD, "--prefect"), own(tmp_path))
    assert "Traceback" not in done.stderr
    assert done.returncode == 2, done.stderr
    assert "newer version of Prefect" in done.stderr


def test_a_current_folder_that_was_removed_is_explained(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    script = f"mkdir {gone} && cd {gone} && rmdir {gone} && {COUNTERFOIL} plan quickstart"
    done = subprocess.run(["bash", "-c", script], env=own(tmp_path), capture_output=True, text=True)
    assert done.returncode == 8, done.stderr
    assert "the current folder cannot be used" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_current_folder_that_is_not_utf_8_is_explained(tmp_path: Path) -> None:
    folder = tmp_path / "\udcff"
    folder.mkdir()
    done = run(("plan", "quickstart"), own(tmp_path), folder)
    assert done.returncode == 2, done.stderr
    assert "the current folder is not UTF-8" in done.stderr


def test_a_reader_that_ends_first_gets_no_traceback(tmp_path: Path) -> None:
    line = f"{COUNTERFOIL} recipe --explain | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], env=own(tmp_path), capture_output=True, text=True, timeout=60)
    assert "Traceback" not in done.stderr
    assert done.returncode in (0, 141)


def test_inside_an_event_loop(tmp_path: Path) -> None:
    code = (
        "import asyncio, counterfoil as cf\n"
        "async def main(): return cf.plan('quickstart')\n"
        "print(asyncio.run(main()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=own(tmp_path), cwd=PROJECT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
