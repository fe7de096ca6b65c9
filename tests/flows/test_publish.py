"""Publish with the command and the flow, twice at once and killed, and load the result."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from huggingface_hub import DatasetCard

from tasks.release import CONFIGS, config_file
from tests.conftest import PROJECT
from tests.release_fixtures import package_build
from tests.servers.hub_server import KILL_AFTER, Fault, HubServer, Received
from tests.tasks.publish.publishing import bytes_of, visible_files
from tests.tasks.release.example import example_question, small_build

COUNTERFOIL = Path(sys.executable).with_name("counterfoil")
REPO = "example/everyday-advice"

LOAD = """
import json, sys
from datasets import load_dataset
found = {}
for config in sys.argv[2:]:
    rows = load_dataset(sys.argv[1], config, split="test", revision="v0.1.0")
    found[config] = [rows.num_rows, rows.features._to_yaml_list()]
print(json.dumps(found))
"""
FLOW = """
import sys
from prefect.blocks.system import Secret
from flows.publish import publish
from schemas.errors import InputError
Secret(value=sys.stdin.read()).save("hub")
print(publish.prefect()(sys.argv[1], repo=sys.argv[2], token_block="hub"))
try:
    publish.fn(sys.argv[1], repo=sys.argv[2], token_block="no-such-block")
except InputError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return package_build(tmp_path_factory.mktemp("packaged"), small_build())


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write another release with the same version."""
    more = example_question("religion", topic="asked me for a reference")
    return package_build(tmp_path_factory.mktemp("other"), small_build().with_questions(more))


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubServer]:
    with HubServer(tmp_path) as server:
        yield server


def environment(hub: HubServer, home: Path, **changes: str) -> dict[str, str]:
    """Return the environment of a new user of the machine."""
    own = {"HF_HOME": str(home / "hf"), "COUNTERFOIL_HOME": str(home / "counterfoil")}
    return {**os.environ, **hub.environment, **own, "PYTHONPATH": str(PROJECT), **changes}


def start(hub: HubServer, home: Path, *arguments: object, **changes: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(COUNTERFOIL), *map(str, arguments)],
        env=environment(hub, home, **changes),
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(hub: HubServer, home: Path, *arguments: object, **changes: str) -> tuple[int, str, str]:
    process = start(hub, home, *arguments, **changes)
    out, err = process.communicate(timeout=120)
    assert "Traceback" not in err
    return process.returncode, out, err


def test_published_verified_loaded(hub: HubServer, release: Path, tmp_path: Path) -> None:
    code, out, _ = run(hub, tmp_path, "publish", release, "--repo", REPO, "--json")
    done: dict[str, Any] = json.loads(out)
    assert code == 0
    assert (done["repo"], done["tag"], done["new"]) == (REPO, "v0.1.0", True)
    assert done["commit"] == hub.repos[REPO].tags["v0.1.0"]
    assert done["url"].startswith(hub.url)
    assert visible_files(hub, "v0.1.0", REPO) == bytes_of(release)

    code, out, _ = run(hub, tmp_path, "publish", release, "--repo", REPO)
    assert code == 0
    assert "was already published" in out
    assert len(hub.history(REPO)) == 2

    code, out, _ = run(hub, tmp_path, "verify", f"{REPO}@v0.1.0", "--json")
    found = json.loads(out)
    assert (code, found["verified"], found["commit"]) == (0, True, done["commit"])
    loads_as_it_was_written(hub, release, tmp_path)


def loads_as_it_was_written(hub: HubServer, release: Path, home: Path) -> None:
    rows = {c: pq.read_metadata(release / config_file(c)).num_rows for c in CONFIGS}
    filled = [config for config in CONFIGS if rows[config]]
    done = subprocess.run(
        [sys.executable, "-c", LOAD, REPO, *filled],
        env=environment(hub, home, HF_HOME=str(home / "fresh")),
        cwd=home,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    promised = DatasetCard.load(release / "README.md").data.to_dict()["dataset_info"]
    features = {info["config_name"]: info["features"] for info in promised}
    for config, (count, loaded) in json.loads(done.stdout).items():
        assert count == rows[config], config
        assert loaded == features[config], config


def test_difference_is_one_line_and_exit_code_6(hub: HubServer, release: Path, tmp_path: Path) -> None:
    changed = Path(shutil.copytree(release, tmp_path / "changed"))
    (changed / "CANARY.md").write_text("no canary")
    (changed / "README.md").write_text("no card")
    code, out, err = run(hub, tmp_path, "verify", changed)
    assert code == 6
    assert [line.split(":")[0] for line in out.splitlines()] == ["CANARY.md", "CANARY.md", "README.md"]
    assert "next:" in err
    code, out, err = run(hub, tmp_path, "publish", changed, "--repo", REPO, "--json")
    assert (code, out) == (6, "")
    assert "README.md:" in err
    assert not hub.requests


def test_of_two_simultaneous_runs_one_wins_and_the_other_gets_an_error(
    hub: HubServer, release: Path, other: Path, tmp_path: Path
) -> None:
    publishers = [
        start(hub, tmp_path, "publish", place, "--repo", REPO, "--json") for place in (release, other)
    ]
    outputs = [process.communicate(timeout=120) for process in publishers]
    codes = [process.returncode for process in publishers]
    assert sorted(codes) == [0, 6], outputs
    winner = (release, other)[codes.index(0)]
    assert visible_files(hub, "main", REPO) == visible_files(hub, "v0.1.0", REPO) == bytes_of(winner)
    assert len(hub.history(REPO)) == 2


def test_command_killed_after_its_commit_finishes_the_next_time(
    hub: HubServer, release: Path, tmp_path: Path
) -> None:
    def at_commit(received: Received) -> Fault | None:
        return KILL_AFTER if received.route == "commit" else None

    hub.faults = at_commit
    process = start(hub, tmp_path, "publish", release, "--repo", REPO)
    hub.client = process.pid
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    assert visible_files(hub, "main", REPO) == bytes_of(release)
    assert hub.repos[REPO].tags == {}
    hub.faults = {}
    code, _, _ = run(hub, tmp_path, "publish", release, "--repo", REPO)
    assert code == 0
    assert hub.repos[REPO].tags == {"v0.1.0": hub.repos[REPO].main}
    assert len(hub.history(REPO)) == 2


def test_token_is_not_in_the_output(release: Path, tmp_path: Path) -> None:
    with HubServer(tmp_path, echoes_token=True) as hub:
        for token, wanted in (("hf_reader", 2), ("hf_not_known_here", 2), (hub.token, 0)):
            code, out, err = run(
                hub, tmp_path, "publish", release, "--repo", REPO, HF_TOKEN=token, HF_DEBUG="1"
            )
            assert code == wanted, err
            assert token not in out + err


@pytest.mark.slow
def test_flow_takes_the_token_from_a_secret_block_and_keeps_it_secret(
    hub: HubServer, release: Path, tmp_path: Path
) -> None:
    quiet = {"PREFECT_HOME": str(tmp_path / "prefect"), "PREFECT_LOGGING_LEVEL": "DEBUG"}
    before = environment(hub, tmp_path, PREFECT_LOGGING_TO_API_ENABLED="true", **quiet)
    del before["HF_TOKEN"]
    done = subprocess.run(
        [sys.executable, "-c", FLOW, str(release), REPO],
        input=hub.token,
        env=before,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    assert hub.repos[REPO].tags
    assert "there is no Prefect Secret block 'no-such-block'" in done.stdout
    kept = b"".join(p.read_bytes() for p in (tmp_path / "prefect").rglob("*") if p.is_file())
    assert b"token_block" in kept  # the parameter is there, and names the block
    assert hub.token.encode() not in kept
    assert hub.token not in done.stdout + done.stderr


def test_dataset_is_named_by_the_person_and_not_by_the_release(
    hub: HubServer, release: Path, tmp_path: Path
) -> None:
    nowhere = package_build(tmp_path, small_build(), recipe={"release": {}})
    for place, hint in ((nowhere, "add --repo org/name"), (release, f"add --repo {REPO}")):
        code, _, err = run(hub, tmp_path, "publish", place)
        assert code == 2
        assert hint in err
    assert not hub.repos
