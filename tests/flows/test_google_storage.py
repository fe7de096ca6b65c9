"""Inputs and the result of `relabel` in Google Cloud Storage, with an emulator on this computer.

It needs the extra [gcs] and `pip install gcp-storage-emulator`, which are not part of the extra `dev`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.flows.test_object_storage import RETRIEVAL, run
from tests.flows.test_schedule import free_port
from tests.release_fixtures import package_build
from tests.tasks.release.example import small_build

os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # the emulator has no gRPC
gcsfs = pytest.importorskip("gcsfs", reason="the extra [gcs] is not installed")
emulator = pytest.importorskip("gcp_storage_emulator.server")


@pytest.fixture(scope="module")
def bucket() -> Iterator[Any]:
    """An emulator with a bucket, as a file system. The environment names the emulator."""
    port = free_port()
    server = emulator.create_server("127.0.0.1", port, in_memory=True, default_bucket="bucket")
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
        for proxy in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            patch.delenv(proxy, raising=False)
        gcsfs.GCSFileSystem.clear_instance_cache()
        yield gcsfs.GCSFileSystem(token="anon")
        gcsfs.GCSFileSystem.clear_instance_cache()
    server.stop()


def test_a_set_is_relabelled_from_and_to_a_bucket(bucket: Any, tmp_path: Path) -> None:
    bucket.pipe_file("bucket/in/set.jsonl", RETRIEVAL.read_bytes())
    out = tmp_path / "clean.jsonl"
    run(tmp_path, "relabel", RETRIEVAL, "--out", out, "--json")
    found, error, code = run(
        tmp_path, "relabel", "gs://bucket/in/set.jsonl", "--out", "gs://bucket/out/clean.jsonl", "--json"
    )
    assert code == 0, error
    assert bucket.cat_file("bucket/out/clean.jsonl") == out.read_bytes()
    assert "gs://bucket/out/clean.jsonl" in json.dumps(found)


def test_a_release_is_read_and_a_missing_file_is_named(bucket: Any, tmp_path: Path) -> None:
    release = package_build(tmp_path / "local", small_build())
    for file in release.rglob("*"):
        if file.is_file():
            bucket.pipe_file(f"bucket/releases/0.1.0/{file.relative_to(release)}", file.read_bytes())
    found, error, code = run(tmp_path, "verify", "gs://bucket/releases/0.1.0", "--json")
    assert code == 0, error
    assert found["verified"]
    _, error, code = run(tmp_path, "relabel", "gs://bucket/nothing.jsonl", "--json")
    assert code == 2
    assert "there is nothing at gs://bucket/nothing.jsonl" in error
