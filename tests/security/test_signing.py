"""A release is signed with an SSH key, and only a known signer's signature of this manifest counts."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from schemas.errors import InputError
from tasks.publish import verify
from tasks.publish.signing import sign_release
from tests.security.hostile import change_manifest, copy_release

pytestmark = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs ssh-keygen")


def make_key(folder: Path, name: str) -> Path:
    key = folder / name
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(key)]
    subprocess.run(command, check=True, timeout=30)
    return key


def signers(folder: Path, *keys: Path) -> Path:
    place = folder / "signers"
    place.write_text("".join(f"{key.name} {key.with_suffix('.pub').read_text()}" for key in keys))
    return place


@pytest.fixture
def release(small_release: Path, tmp_path: Path) -> Path:
    return copy_release(small_release, tmp_path)


def test_signature_of_a_known_signer_is_accepted(release: Path, tmp_path: Path) -> None:
    key, other = make_key(tmp_path, "alice"), make_key(tmp_path, "mallory")
    known = signers(tmp_path, key)
    unsigned = verify(str(release), signed_by=known)
    assert unsigned.differences == ("manifest.sha256.sig: the release is not signed",)
    sign_release(release, key)
    assert verify(str(release)).verified
    assert verify(str(release), signed_by=known).verified
    sign_release(release, other)
    refused = verify(str(release), signed_by=known)
    assert refused.differences == ("manifest.sha256.sig: none of the known signers signed this manifest",)


def test_changed_manifest_is_not_signed(release: Path, tmp_path: Path) -> None:
    key = make_key(tmp_path, "alice")
    sign_release(release, key)
    change_manifest(release, lambda manifest: manifest.update(seed=99))
    assert not verify(str(release), signed_by=signers(tmp_path, key)).verified
    (release / "manifest.sha256.sig").write_bytes(b"\xff" * 100)
    assert not verify(str(release), signed_by=signers(tmp_path, key)).verified


def test_signature_for_another_purpose_is_not_accepted(release: Path, tmp_path: Path) -> None:
    key = make_key(tmp_path, "alice")
    place = release / "manifest.sha256"
    command = ["ssh-keygen", "-Y", "sign", "-f", str(key), "-n", "git", str(place)]
    subprocess.run(command, check=True, timeout=30, capture_output=True)
    assert not verify(str(release), signed_by=signers(tmp_path, key)).verified


def test_missing_key_and_missing_signers_are_named(release: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no key"):
        sign_release(release, tmp_path / "nobody")
    with pytest.raises(InputError, match="there is no file"):
        verify(str(release), signed_by=tmp_path / "nobody")
