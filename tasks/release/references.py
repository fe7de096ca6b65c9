"""References to published releases, such as `org/name@v1.2.0`. Fetched releases are found offline."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from schemas.errors import InputError
from tasks.release import is_version

_REF = re.compile(r"([A-Za-z0-9_][\w.-]*/[A-Za-z0-9_][\w.-]*)@([A-Za-z0-9][\w.-]*)", re.ASCII)


class Versioned(Protocol):
    """A record with a version."""

    @property
    def version(self) -> str:
        """Version as `major.minor.patch`."""
        ...


@dataclass(frozen=True)
class HubRef:
    """A dataset of the Hub and one of its tags."""

    repo: str
    tag: str

    @classmethod
    def of(cls, text: str) -> HubRef | None:
        """Parse `org/name@tag`. Return `None` for any other text, and for an existing path."""
        match = _REF.fullmatch(text)
        return cls(match[1], match[2]) if match and not Path(text).exists() else None

    def fits(self, release: Versioned) -> bool:
        """Return whether a release has the version of the tag. Tags that are not versions fit any release."""
        version = self.tag.removeprefix("v")
        return not is_version(version) or release.version == version


def find_fetched_release(ref: str, cache_dir: Path) -> Path | None:
    """Return the directory of a release in the cache, or `None` if it was not fetched."""
    parsed = parse_reference(ref)
    note = commit_file(parsed, cache_dir)
    home = cache_dir / parsed.repo / note.read_text(encoding="ascii") if note.is_file() else None
    return home if home is not None and home.is_dir() else None


def resolve_place(place: str, cache_dir: Path) -> Path:
    """Return a path unchanged, and the directory of a fetched release for a reference.

    Raises:
        InputError: If the release was not fetched.
    """
    if HubRef.of(place) is None:
        return Path(place)
    directory = find_fetched_release(place, cache_dir)
    if directory is None:
        raise InputError(f"{place} was not fetched yet", hint="`counterfoil build` fetches it")
    return directory


def parse_reference(ref: str) -> HubRef:
    """Parse a reference.

    Raises:
        InputError: If the text is not a reference.
    """
    parsed = HubRef.of(ref)
    if parsed is None:
        raise InputError(f"{ref!r} is not a published release", hint="write it as org/name@v1.0.0")
    return parsed


def commit_file(ref: HubRef, cache_dir: Path) -> Path:
    """Return the path of the file that records the commit of a fetched tag."""
    return cache_dir / ref.repo / f"{ref.tag}.commit"
