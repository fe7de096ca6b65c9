"""References to published releases: `org/name@v1.2.0`, resolved offline once fetched."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from schemas.errors import InputError
from tasks.release import is_version

_REF = re.compile(r"([A-Za-z0-9_][\w.-]*/[A-Za-z0-9_][\w.-]*)@([A-Za-z0-9][\w.-]*)", re.ASCII)


class Versioned(Protocol):
    @property
    def version(self) -> str: ...


@dataclass(frozen=True)
class HubRef:
    """A dataset and one of its tags."""

    repo: str
    tag: str

    @classmethod
    def of(cls, text: str) -> HubRef | None:
        """`org/name@tag`; `None` for everything else, and for a path that is there."""
        found = _REF.fullmatch(text)
        return cls(found[1], found[2]) if found and not Path(text).exists() else None

    def fits(self, found: Versioned) -> bool:
        """Whether a release is the one that a version's tag promises."""
        version = self.tag.removeprefix("v")
        return not is_version(version) or found.version == version


def fetched_release(ref: str, cache_dir: Path) -> Path | None:
    """The directory of a release that `fetch_release` left there, found offline."""
    wanted = parse_reference(ref)
    note = commit_file(wanted, cache_dir)
    home = cache_dir / wanted.repo / note.read_text(encoding="ascii") if note.is_file() else None
    return home if home is not None and home.is_dir() else None


def place_of(place: str, cache_dir: Path) -> Path:
    """A path as it is; a published release as it was fetched. Raises `InputError` where it was not."""
    if HubRef.of(place) is None:
        return Path(place)
    found = fetched_release(place, cache_dir)
    if found is None:
        raise InputError(f"{place} was not fetched yet", hint="`counterfoil build` fetches it")
    return found


def parse_reference(ref: str) -> HubRef:
    wanted = HubRef.of(ref)
    if wanted is None:
        raise InputError(f"{ref!r} is no published release", hint="write it as org/name@v1.0.0")
    return wanted


def commit_file(wanted: HubRef, cache_dir: Path) -> Path:
    return cache_dir / wanted.repo / f"{wanted.tag}.commit"
