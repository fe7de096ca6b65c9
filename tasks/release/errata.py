"""errata.jsonl of a release: every text that was mended since the first version, oldest first."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from schemas.erratum import Erratum

ERRATA = "errata.jsonl"


def read_errata(release: Path | None) -> tuple[Erratum, ...]:
    """A release's errata; none where there is no release, or nothing was mended."""
    place = release / ERRATA if release else None
    if place is None or not place.is_file():
        return ()
    return tuple(Erratum.model_validate_json(line) for line in place.read_bytes().splitlines() if line)


def write_errata(release: Path, errata: Iterable[Erratum]) -> None:
    """The file, where there is anything to write."""
    lines = [erratum.model_dump_json() + "\n" for erratum in errata]
    if lines:
        (release / ERRATA).write_text("".join(lines), encoding="utf-8", newline="\n")
