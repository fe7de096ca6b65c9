"""Earlier releases and files that something must stay clear of."""

from __future__ import annotations

from pathlib import Path

from schemas.errors import InputError
from tasks.release.configs import QUESTION_CONFIGS
from tasks.release.reading import read_manifest


def earlier_files(place: Path) -> list[Path]:
    """A file, or the question tables of a release. Raises `InputError` where there is neither."""
    files = [place]
    if place.is_dir():
        files = [f for c in QUESTION_CONFIGS for f in sorted((place / "data" / c).glob("*.parquet"))]
        files = files or sorted(place.glob("*.parquet"))
    if not files or not files[0].exists():
        raise InputError(
            f"there is no release or file {place}",
            hint="give a file, or the directory of a release; download a published one first",
        )
    return files


def source_name(place: Path) -> str:
    """`name@version` of a release, the name of any other file or folder; never its path."""
    if (place / "manifest.json").is_file():
        manifest = read_manifest(place)
        return f"{manifest.name}@{manifest.version}"
    return place.name
