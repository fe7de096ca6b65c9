"""Verify: recompute what a release promises. Anyone can, for a directory or a published version."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from schemas.errors import InputError, PublishError
from schemas.manifest import Manifest
from schemas.tables import Row
from tasks.progress import track
from tasks.release.fetching import HubRef
from tasks.release.hub import Hub
from tasks.release.hub_errors import patiently
from tasks.release.integrity import differences
from tasks.release.reading import read_manifest


class Verified(Row):
    """What was found. `differences` has one line for every file that is not as promised."""

    release: str
    name: str
    version: str
    commit: str | None
    """The one that the tag names; `None` for a directory."""
    files: int
    rows: dict[str, int]
    verified: bool
    differences: tuple[str, ...]


def verify(release: str, open_hub: Callable[[], Hub] = Hub) -> Verified:
    """A directory, or `org/name@v1.2.0`, freshly downloaded; only for that a Hub is opened.

    Raises `InputError` where there is no release, `PublishError` where the Hub cannot be reached.
    """
    ref = HubRef.of(release)
    if ref is None:
        return verify_directory(Path(release), release)
    hub = open_hub()
    commit = patiently(lambda: ref.commit(hub))

    def fetch_and_verify() -> Verified:
        with TemporaryDirectory(prefix="counterfoil-") as room:
            hub.download(ref.repo, commit, Path(room))
            return verify_directory(Path(room), release)

    with track(f"downloading {release}", None):
        found = patiently(fetch_and_verify)
    wrong = [f"manifest.json: it is that of {found.version}, not of {ref.tag}"] if not ref.fits(found) else []
    return found.model_copy(
        update={
            "commit": commit,
            "differences": (*wrong, *found.differences),
            "verified": found.verified and not wrong,
        }
    )


def verify_directory(path: Path, name: str) -> Verified:
    """Every sha256 of the manifest, row counts, the canary, the columns."""
    if not path.is_dir():
        raise InputError(f"there is no release {name}", hint="give a release directory, or org/name@v1.0.0")
    manifest: Manifest = read_manifest(path)
    lines = differences(path)
    return Verified(
        release=name,
        name=manifest.name,
        version=manifest.version,
        commit=None,
        files=len(manifest.files) + 1,
        rows=manifest.rows,
        verified=not lines,
        differences=tuple(lines),
    )


def raise_if_different(found: Verified) -> None:
    """Raise `PublishError` where anything differs; the lines are told by who calls."""
    if found.differences:
        count = len(found.differences)
        raise PublishError(
            f"{found.release} is not what its manifest says: {count} difference{'s' if count != 1 else ''}",
            hint="each line names a file; take the release from where it was published",
        )
