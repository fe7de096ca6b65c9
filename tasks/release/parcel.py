"""A release on its way: checked before it leaves, and known by the sha256 of its manifest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from schemas.errors import GateError, PublishError
from schemas.ids import file_hash
from schemas.manifest import Manifest
from tasks.release.integrity import differing_files
from tasks.release.reading import MANIFEST, read_manifest


@dataclass(frozen=True)
class Parcel:
    """A release that may be published: its files are what its manifest says, and the gate passed."""

    path: Path
    manifest: Manifest
    seal: str
    """sha256 of manifest.json, which holds those of all other files."""

    @property
    def tag(self) -> str:
        return f"v{self.manifest.version}"

    @property
    def title(self) -> str:
        """Of the commit that brings it."""
        return f"{self.manifest.name} {self.manifest.version}"

    @property
    def files(self) -> dict[str, Path]:
        return {name: self.path / name for name in (*sorted(self.manifest.files), MANIFEST)}


def pack(release: Path) -> Parcel:
    """The release, checked. Raises `GateError` if it never passed the gate, `PublishError` if it changed."""
    manifest = read_manifest(release)
    if manifest.validation.get("passed") != 1 or manifest.validation.get("errors") != 0:
        raise GateError(
            "the release has not passed validation",
            place=str(release / MANIFEST),
            hint="`counterfoil validate` says what to mend; build it again then",
        )
    refuse_different(
        differing_files(release, manifest),
        f"{release} is not what was released",
        hint="restore it, or build it again: finished steps are kept",
    )
    return Parcel(release, manifest, file_hash(release / MANIFEST))


def seal_of(manifest: bytes | None) -> str | None:
    """What tells one release from every other; `None` where there is none."""
    return sha256(manifest).hexdigest() if manifest is not None else None


def refuse_different(lines: Sequence[str], what: str, *, hint: str) -> None:
    """Raise `PublishError` with one line a file, where there is any."""
    if lines:
        raise PublishError("\n".join([f"{what}:", *(f"  {line}" for line in lines)]), hint=hint)
