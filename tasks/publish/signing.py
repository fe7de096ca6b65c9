"""Sign the hash of a manifest with an SSH key, and check the signature. `ssh-keygen` does both offline.

The manifest has the hashes of all files, so its signature covers the whole release.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from shutil import which

from schemas.errors import InputError
from tasks.release import MANIFEST_HASH, MANIFEST_SIGNATURE, describe_hash_difference
from tasks.text.printable import printable

NAMESPACE = "counterfoil"
"""Purpose of the signature. A signature of the same key for another purpose is not accepted."""
TIMEOUT_S = 120.0
MAX_SIGNATURE_BYTES = 64 << 10


def sign_release(release: Path, key: Path) -> None:
    """Write `manifest.sha256.sig` into a release.

    Args:
        release: The release, with `manifest.sha256`.
        key: The private key, or the public one if an agent has the private one.

    Raises:
        InputError: If there is no such key, no hash, or `ssh-keygen` fails.
    """
    if not key.is_file():
        raise InputError(f"there is no key {key}", hint="create one with `ssh-keygen -t ed25519`")
    if not (release / MANIFEST_HASH).is_file() or describe_hash_difference(release):
        raise InputError(
            f"the release has no valid {MANIFEST_HASH}", place=str(release), hint="build it with this version"
        )
    (release / MANIFEST_SIGNATURE).unlink(missing_ok=True)
    place = str(release / MANIFEST_HASH)
    done = _run("-Y", "sign", "-f", str(key), "-n", NAMESPACE, place)
    if done.returncode or not (release / MANIFEST_SIGNATURE).is_file():
        raise InputError(f"the release cannot be signed: {_last_line(done)}", place=str(key))


def describe_signature_fault(release: Path, signers: Path) -> str | None:
    """Return the fault of the signature of a release, or `None` if a known signer signed it.

    Args:
        release: The release.
        signers: File of known signers: `NAME KEYTYPE KEY` per line, as in `ssh-keygen(1)`, "allowed signers".

    Raises:
        InputError: If there is no such file, or no `ssh-keygen`.
    """
    if not signers.is_file():
        raise InputError(
            f"there is no file {signers}", hint="write one line per signer: NAME ssh-ed25519 KEY"
        )
    signature, content = release / MANIFEST_SIGNATURE, release / MANIFEST_HASH
    if any(path.is_symlink() or not path.is_file() for path in (signature, content)):
        return f"{MANIFEST_SIGNATURE}: the release is not signed"
    if signature.stat().st_size > MAX_SIGNATURE_BYTES or content.stat().st_size > MAX_SIGNATURE_BYTES:
        return f"{MANIFEST_SIGNATURE}: it is no signature"
    if describe_hash_difference(release):
        return f"{MANIFEST_SIGNATURE}: the signed hash is not that of the manifest"
    known = ("-f", str(signers), "-s", str(signature), "-n", NAMESPACE)
    found = _run("-Y", "find-principals", *known)
    for name in found.stdout.decode("utf-8", "replace").splitlines():
        done = _run("-Y", "verify", *known, "-I", name, content=content.read_bytes())
        if done.returncode == 0:
            return None
    return f"{MANIFEST_SIGNATURE}: none of the known signers signed this manifest"


def _run(*arguments: str, content: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    program = which("ssh-keygen")
    if program is None:
        raise InputError("ssh-keygen is not installed", hint="Debian: apt-get install openssh-client")
    return subprocess.run(
        [program, *arguments], input=content, capture_output=True, timeout=TIMEOUT_S, check=False
    )


def _last_line(done: subprocess.CompletedProcess[bytes]) -> str:
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return printable(lines[-1], 200) if lines else f"ssh-keygen ended with code {done.returncode}"
