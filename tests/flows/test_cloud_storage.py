"""Inputs, releases and the result of `relabel` in Google Cloud Storage and Azure Blob Storage.

Emulators on this computer take their place. Azurite is a package of npm, so its tests are skipped without it.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.flows.test_object_storage import RETRIEVAL, run
from tests.flows.test_schedule import free_port
from tests.release_fixtures import package_build
from tests.tasks.release.example import small_build

pytestmark = pytest.mark.slow

AZURITE = shutil.which("azurite-blob")
ACCOUNT, ACCOUNT_KEY = "counterfoil", b64encode(b"key of the tests").decode()


@dataclass(frozen=True)
class Bucket:
    """A bucket of an emulator, as a file system."""

    scheme: str
    files: Any

    def address(self, path: str) -> str:
        return f"{self.scheme}://bucket/{path}"


@contextmanager
def google(patch: pytest.MonkeyPatch) -> Iterator[Any]:
    patch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # the emulator has no gRPC
    gcsfs = pytest.importorskip("gcsfs", reason="the extra [gcs] is not installed")
    emulator = pytest.importorskip("gcp_storage_emulator.server")
    port = free_port()
    server = emulator.create_server("127.0.0.1", port, in_memory=True, default_bucket="bucket")
    server.start()
    patch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
    gcsfs.GCSFileSystem.clear_instance_cache()
    yield gcsfs.GCSFileSystem(token="anon")
    gcsfs.GCSFileSystem.clear_instance_cache()
    server.stop()


@contextmanager
def azure(patch: pytest.MonkeyPatch, folder: Path) -> Iterator[Any]:
    adlfs = pytest.importorskip("adlfs", reason="the extra [azure] is not installed")
    if AZURITE is None:
        pytest.skip("needs Azurite (npm install -g azurite)")
    port = free_port()
    options = ["--blobPort", str(port), "--location", str(folder), "--silent", "--disableTelemetry"]
    process = subprocess.Popen(
        [AZURITE, "--skipApiVersionCheck", *options],
        env={**os.environ, "AZURITE_ACCOUNTS": f"{ACCOUNT}:{ACCOUNT_KEY}"},
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_for_port(port, process)
        endpoint = f"BlobEndpoint=http://127.0.0.1:{port}/{ACCOUNT}"
        account = f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={ACCOUNT_KEY}"
        patch.setenv("AZURE_STORAGE_CONNECTION_STRING", f"{account};{endpoint};")
        adlfs.AzureBlobFileSystem.clear_instance_cache()
        files = adlfs.AzureBlobFileSystem()
        files.mkdir("bucket")
        yield files
        adlfs.AzureBlobFileSystem.clear_instance_cache()
    finally:
        process.terminate()
        process.wait(30)


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        with closing(socket.socket()) as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError("Azurite did not start")


@pytest.fixture(scope="module", params=["gs", "az"])
def bucket(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    """A bucket of each emulator. The environment names the emulator."""
    with pytest.MonkeyPatch.context() as patch:
        for proxy in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            patch.delenv(proxy, raising=False)
        emulator = (
            google(patch) if request.param == "gs" else azure(patch, tmp_path_factory.mktemp("azurite"))
        )
        with emulator as files:
            yield Bucket(request.param, files)


def test_a_set_is_relabelled_from_and_to_a_bucket(bucket: Bucket, tmp_path: Path) -> None:
    bucket.files.pipe_file("bucket/in/set.jsonl", RETRIEVAL.read_bytes())
    out = tmp_path / "clean.jsonl"
    run(tmp_path, "relabel", RETRIEVAL, "--out", out, "--json")
    source, target = bucket.address("in/set.jsonl"), bucket.address("out/clean.jsonl")
    found, error, code = run(tmp_path, "relabel", source, "--out", target, "--json")
    assert code == 0, error
    assert bucket.files.cat_file("bucket/out/clean.jsonl") == out.read_bytes()
    assert target in json.dumps(found)
    assert not [name for name in bucket.files.find("bucket/out") if ".counterfoil-" in name]


def test_a_release_is_read_and_a_missing_file_is_named(bucket: Bucket, tmp_path: Path) -> None:
    release = package_build(tmp_path / "local", small_build())
    for file in release.rglob("*"):
        if file.is_file():
            bucket.files.pipe_file(f"bucket/releases/0.1.0/{file.relative_to(release)}", file.read_bytes())
    found, error, code = run(tmp_path, "verify", bucket.address("releases/0.1.0"), "--json")
    assert code == 0, error
    assert found["verified"]
    _, error, code = run(tmp_path, "relabel", bucket.address("nothing.jsonl"), "--json")
    assert code == 2
    assert f"there is nothing at {bucket.address('nothing.jsonl')}" in error


def test_a_refused_key_is_explained_and_not_shown(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if bucket.scheme != "az":
        pytest.skip("the emulator of Google Cloud Storage accepts every key")
    wrong = b64encode(b"a key of others").decode()
    right = os.environ["AZURE_STORAGE_CONNECTION_STRING"]
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", right.replace(ACCOUNT_KEY, wrong))
    bucket.files.clear_instance_cache()
    out = bucket.address("out/refused.jsonl")
    _, error, code = run(tmp_path, "relabel", RETRIEVAL, "--out", out, "--json")
    assert code == 2
    assert "cannot be" in error
    assert "AZURE_STORAGE" in error
    assert wrong not in error
