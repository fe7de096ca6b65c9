"""Minimal releases, and a publisher."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import constants

from schemas.release import Manifest, ReleaseComparison
from schemas.tables import file_hash
from tasks.publish import Published, publish
from tasks.publish import hub as door
from tasks.publish import hub as hub_errors
from tasks.publish.hub import Hub
from tasks.release import config_file
from tasks.run.retries import Backoff, RetryPolicy
from tests.servers.hub_server import HubServer

NAME, REPO = "everyday-advice", "org/everyday-advice"
CARD = """---
license: cc-by-4.0
tags: [bias]
configs: [{config_name: questions, data_files: [{split: test, path: data/questions/*.parquet}]}]
---
Version %s
"""


def write_release(
    home: Path, version: str, *, previous: Path | None = None, name: str = NAME, note: str = ""
) -> Path:
    """Write a card, one table and a manifest. Only the first version has an extra page."""
    path = home / name / version
    place = path / config_file("questions")
    place.parent.mkdir(parents=True)
    pq.write_table(pa.table({"id": ["q_1"], "text": [version + note]}), place)
    (path / "README.md").write_text(CARD % version)
    if previous is None:
        (path / "NOTES.md").write_text("only in the first version\n")
    files = {f.relative_to(path).as_posix(): file_hash(f) for f in sorted(path.rglob("*")) if f.is_file()}
    (path / "manifest.json").write_text(manifest_of(name, version, files, previous).model_dump_json(indent=1))
    return path


def manifest_of(name: str, version: str, files: dict[str, str], previous: Path | None) -> Manifest:
    comparison = ReleaseComparison(
        old_version=previous.name if previous else None,
        old_manifest=file_hash(previous / "manifest.json") if previous else None,
        new_version=version,
        bump="minor" if previous else "first",
        added=(),
        removed=(),
        reworded=(),
        relabelled=(),
        schema_changes=(),
        common=0,
        fitness_drift=None,
    )
    return Manifest(
        name=name,
        version=version,
        counterfoil_version="0.1.0",
        recipe={"name": name, "release": {"repo": REPO}},
        recipe_hash="0" * 64,
        seed=1,
        models={},
        vocabulary={},
        counts=(),
        rows={"questions": 1},
        cost_estimated=(),
        cost=(),
        judged_by=(),
        canary="canary",
        comparison=comparison,
        validation={"passed": 1, "warnings": 0, "errors": 0},
        files=files,
    )


def bytes_of(release: Path) -> dict[str, bytes]:
    """Return the content of every file of a release on disk, by path."""
    return {f.relative_to(release).as_posix(): f.read_bytes() for f in release.rglob("*") if f.is_file()}


def visible_files(hub: HubServer, revision: str = "main", repo: str = REPO) -> dict[str, bytes]:
    """Return the files that readers of the Hub see at a revision, without the Hub's own."""
    return {name: content for name, content in hub.files(repo, revision).items() if name[0] != "."}


def publisher(hub: HubServer, token: str | None = None) -> Hub:
    return Hub(token or hub.token, hub.url)


def publish_to(hub: HubServer, release: Path, **options: bool) -> Published:
    return publish(release, REPO, publisher(hub), **options)


@contextmanager
def short_wait_client() -> Iterator[None]:
    """Return the real client, online and with short waits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        patch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 2)
        patch.setattr(door, "TIMEOUT_S", 2.0)
        patch.setattr(hub_errors, "RETRY_POLICY", RetryPolicy(5, Backoff(0.05, 60.0), longest_wait_s=120.0))
        huggingface_hub.close_session()
        yield
    huggingface_hub.close_session()


def publish_on_signal(release: Path, url: str, token: str, signal: Connection) -> None:
    """Publish in a child process, when the parent gives the signal."""
    with short_wait_client():
        signal.recv()
        publish(release, REPO, Hub(token, url))
