"""Inputs, releases and the result of `relabel` in object storage: moto's S3 server, and fsspec's memory."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from fsspec.registry import _registry  # type: ignore[import-untyped]

from flows.cli import cli
from schemas.errors import InputError
from schemas.places import explain_remote, local_path, read_address
from tests.conftest import PROJECT
from tests.release_fixtures import package_build
from tests.tasks.release.example import small_build

s3fs = pytest.importorskip("s3fs", reason="the extra [s3] is not installed")
moto_server = pytest.importorskip("moto.server")

RETRIEVAL = PROJECT / "data/examples/retrieval.jsonl"


@pytest.fixture(scope="module")
def bucket() -> Iterator[Any]:
    """An S3 server with a bucket, as a file system. The environment names the server."""
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing-secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        for proxy in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            patch.delenv(proxy, raising=False)
        s3fs.S3FileSystem.clear_instance_cache()
        files = s3fs.S3FileSystem()
        files.mkdir("bucket")
        yield files
        s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


def run(home: Path, *arguments: object) -> tuple[Any, str, int]:
    """Return the JSON object that a command prints, its error, and its exit code."""
    done = CliRunner().invoke(cli, list(map(str, arguments)), env={"COUNTERFOIL_HOME": str(home)})
    error = done.exception
    if isinstance(error, InputError):
        return None, str(error), 2
    if error is not None and not isinstance(error, SystemExit):
        raise error
    return (json.loads(done.stdout) if done.stdout else None), done.stderr, done.exit_code


def test_a_set_is_relabelled_from_and_to_a_bucket(bucket: Any, tmp_path: Path) -> None:
    bucket.put_file(str(RETRIEVAL), "bucket/in/set.jsonl")
    out = tmp_path / "clean.jsonl"
    plain, _, _ = run(tmp_path, "relabel", RETRIEVAL, "--out", out, "--json")
    found, error, code = run(
        tmp_path, "relabel", "s3://bucket/in/set.jsonl", "--out", "s3://bucket/out/clean.jsonl", "--json"
    )
    assert code == 0, error
    assert bucket.cat_file("bucket/out/clean.jsonl") == out.read_bytes()
    assert bucket.exists("bucket/out/clean.jsonl.label_history.parquet")
    assert found["promoted"] == plain["promoted"]
    assert "s3://bucket/out/clean.jsonl" in json.dumps(found)
    assert not [name for name in bucket.find("bucket/out") if ".counterfoil-" in name]

    again, error, code = run(
        tmp_path, "relabel", "s3://bucket/in/set.jsonl", "--out", "s3://bucket/out/clean.jsonl", "--json"
    )
    assert code == 0, error
    assert again["promoted"] == found["promoted"]


def test_the_result_of_another_job_in_a_bucket_is_not_replaced(bucket: Any, tmp_path: Path) -> None:
    bucket.pipe_file("bucket/mine.jsonl", b"mine\n")
    _, error, code = run(tmp_path, "relabel", RETRIEVAL, "--out", "s3://bucket/mine.jsonl", "--json")
    assert code == 2
    assert "s3://bucket/mine.jsonl exists" in error
    assert bucket.cat_file("bucket/mine.jsonl") == b"mine\n"
    _, error, code = run(
        tmp_path, "relabel", RETRIEVAL, "--out", "s3://bucket/mine.jsonl", "--overwrite", "--json"
    )
    assert code == 0, error
    assert bucket.cat_file("bucket/mine.jsonl") != b"mine\n"


def test_a_bucket_that_does_not_exist_is_an_error_before_work_is_done(bucket: Any, tmp_path: Path) -> None:
    _, error, code = run(tmp_path, "relabel", RETRIEVAL, "--out", "s3://missing/clean.jsonl", "--json")
    assert code == 2
    assert "s3://missing" in error
    assert "testing-secret" not in error
    _, error, code = run(tmp_path, "relabel", "s3://bucket/nothing.jsonl", "--json")
    assert code == 2
    assert "there is nothing at s3://bucket/nothing.jsonl" in error


def test_releases_and_recipes_in_a_bucket_are_read(bucket: Any, tmp_path: Path) -> None:
    release = package_build(tmp_path / "local", small_build())
    bucket.put(str(release), "bucket/releases/0.1.0", recursive=True)
    bucket.put_file(str(PROJECT / "data/recipes/quickstart.yaml"), "bucket/quickstart.yaml")
    address = "s3://bucket/releases/0.1.0"
    for command in (("show",), ("verify",), ("diff", release)):
        found, error, code = run(tmp_path, *command, address, "--json")
        assert code == 0, error
        assert found
    found, error, code = run(tmp_path, "plan", "s3://bucket/quickstart.yaml", "--json")
    assert code == 0, error
    assert found["stages"]
    copies = list((tmp_path / "cache/remote").iterdir())
    run(tmp_path, "show", address, "--json")
    assert list((tmp_path / "cache/remote").iterdir()) == copies, "an unchanged release is copied once"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("build", "quickstart", "--out", "s3://bucket/x"), "not supported here"),
        (("deduplicate", RETRIEVAL, "--text", "query", "--out", "gs://bucket/x"), "not supported here"),
        (("fix", "--from", "s3://bucket/x.csv", "--release", "r"), "not supported here"),
        (("relabel", "ftp://host/x.jsonl"), "no known object storage"),
    ],
)
def test_everything_else_is_refused_at_once(
    tmp_path: Path, arguments: tuple[object, ...], words: str
) -> None:
    _, error, code = run(tmp_path, *arguments, "--json")
    assert code == 2
    assert words in error
    assert not list(Path.cwd().glob("s3:*"))


@pytest.mark.parametrize(
    ("arguments", "library", "extra"),
    [
        (("show", "az://container/release"), "adlfs", "azure"),
        (("relabel", "gs://bucket/x.jsonl"), "gcsfs", "gcs"),
    ],
)
def test_a_missing_library_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], library: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    for scheme in ("az", "gs"):
        monkeypatch.delitem(_registry, scheme, raising=False)
    _, error, code = run(tmp_path, *arguments, "--json")
    assert code == 2
    assert f"needs the extra [{extra}]" in error


def test_a_file_address_is_a_path(tmp_path: Path) -> None:
    out = tmp_path / "clean.jsonl"
    found, error, code = run(tmp_path, "relabel", RETRIEVAL.as_uri(), "--out", out.as_uri(), "--json")
    assert code == 0, error
    assert out.is_file()
    assert found["rows"]


def test_addresses_are_told_from_paths() -> None:
    assert read_address(Path("s3://bucket/a/b")) == "s3://bucket/a/b"
    assert read_address("C:/data/x") is None
    assert read_address("file:///tmp/x") is None
    assert local_path("file:///tmp/x") == "/tmp/x"
    assert local_path("s3://b/x") == "s3://b/x"
    assert explain_remote("s3://b/x", supported=True) is None
    assert explain_remote("data/x") is None
