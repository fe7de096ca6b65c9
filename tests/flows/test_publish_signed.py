"""`publish --sign` and `verify --signed-by` as commands, with the server of the Hub."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flows.test_publish import REPO, run
from tests.security.hostile import change_manifest, copy_release
from tests.security.test_signing import make_key, signers
from tests.servers.hub_server import HubServer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs ssh-keygen"),
]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubServer]:
    with HubServer(tmp_path / "hub") as server:
        yield server


def verify(hub: HubServer, home: Path, release: object, signed_by: Path) -> tuple[int, list[str]]:
    """Return the exit code of `verify`, and the differences that it lists."""
    code, out, _ = run(hub, home, "verify", release, "--signed-by", signed_by, "--json")
    return code, json.loads(out)["differences"] if out else []


def test_signed_release_is_published_and_verified(
    hub: HubServer, small_release: Path, tmp_path: Path
) -> None:
    release = copy_release(small_release, tmp_path / "mine")
    alice, mallory = make_key(tmp_path, "alice"), make_key(tmp_path, "mallory")
    known = signers(tmp_path, alice)
    strangers = tmp_path / "strangers"
    strangers.write_text(f"mallory {mallory.with_suffix('.pub').read_text()}")
    published = ("publish", release, "--repo", REPO)

    for key in (tmp_path / "nobody", alice.with_suffix(".pub"), strangers):
        if key == alice.with_suffix(".pub"):
            alice.rename(tmp_path / "moved")  # without an agent, the public key alone signs nothing
        code, out, err = run(hub, tmp_path, *published, "--sign", key, SSH_AUTH_SOCK="")
        if (tmp_path / "moved").exists():
            (tmp_path / "moved").rename(alice)
        assert (code, out) == (2, ""), err
        assert "error:" in err
    assert REPO not in hub.repos, "a release that cannot be signed is not published"
    assert not (release / "manifest.sha256.sig").exists()

    code, out, err = run(hub, tmp_path, *published, "--sign", alice, "--json")
    assert code == 0, err
    reference = f"{REPO}@{json.loads(out)['tag']}"
    assert verify(hub, tmp_path, reference, known) == (0, [])
    fault = "manifest.sha256.sig: none of the known signers signed this manifest"
    assert verify(hub, tmp_path, reference, strangers) == (6, [fault])
    (tmp_path / "empty").write_text("")
    assert verify(hub, tmp_path, reference, tmp_path / "empty") == (6, [fault])
    assert verify(hub, tmp_path, reference, tmp_path / "missing") == (2, [])


def test_unsigned_and_changed_releases_are_refused(
    hub: HubServer, small_release: Path, tmp_path: Path
) -> None:
    release = copy_release(small_release, tmp_path / "mine")
    alice = make_key(tmp_path, "alice")
    known = signers(tmp_path, alice)
    code, out, err = run(hub, tmp_path, "publish", release, "--repo", REPO, "--json")
    assert code == 0, err
    missing = ["manifest.sha256.sig: the release is not signed"]
    assert verify(hub, tmp_path, f"{REPO}@{json.loads(out)['tag']}", known) == (6, missing)

    # A stranger changes the manifest of a signed release, and makes its hash fit.
    other = "example/changed"
    code, _, err = run(hub, tmp_path, "publish", release, "--repo", "example/signed", "--sign", alice)
    assert code == 0, err
    change_manifest(release, lambda manifest: manifest.update(seed=99))
    code, out, err = run(hub, tmp_path, "publish", release, "--repo", other, "--json")
    assert code == 0, err
    fault = "manifest.sha256.sig: none of the known signers signed this manifest"
    for place in (release, f"{other}@{json.loads(out)['tag']}"):
        assert verify(hub, tmp_path, place, known) == (6, [fault])
