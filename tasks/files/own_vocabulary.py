"""Attribute files of a user: in a folder `attributes` beside the recipe, and in releases that used them.

They are combined with the vocabulary in a folder of links, so that everything that reads the vocabulary finds
them. A file of the user replaces one of the vocabulary with the same name.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from schemas.question import Question
from schemas.tables import content_hash, file_hash
from tasks.files.vocabulary import read_attribute, shipped_data
from tasks.run.store import rename_directory, write_bytes

FOLDER = "attributes"
RESULTS = frozenset(
    {"cache", "evaluations", "hold_back", "outputs", "passports", "prefect", "rejudgements", "releases"}
    | {"reviews", "runs"}
)
"""Folders that commands write into the home of a user, which is the vocabulary's folder in a checkout."""
MAX_FILES = 500
MAX_BYTES = 1 << 20
"""Largest attribute file."""
_LANGUAGE = re.compile(r"[a-z]{2,3}")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*\.yaml")


def overlay_attributes(base: Path, folders: Iterable[Path], cache: Path) -> Path:
    """Return the vocabulary with the attribute files of some folders, or `base` if they have none.

    Args:
        base: The vocabulary.
        folders: Folders with `<id>.yaml` and `<language>/<id>.yaml`. The first one with a file wins.
        cache: Folder in which combined vocabularies are kept, each under the hash of its content.
    """
    own: dict[str, Path] = {}
    for folder in folders:
        if folder.is_dir() and folder.resolve() != (base / FOLDER).resolve():
            for path in _attribute_files(folder):
                own.setdefault(f"{FOLDER}/{path.relative_to(folder).as_posix()}", path)
    return overlay_files(base, own, cache)


def overlay_files(base: Path, own: Mapping[str, Path], cache: Path) -> Path:
    """Return the vocabulary with own files, or `base` if there are none.

    Args:
        base: The vocabulary.
        own: Files by their path in the vocabulary.
        cache: Folder in which combined vocabularies are kept, each under the hash of its content.
    """
    if not own:
        return base
    listing = [path.relative_to(base).as_posix() for path in _vocabulary_files(base)]
    key = content_hash([str(base.resolve()), listing, {name: file_hash(path) for name, path in own.items()}])
    home = cache / key[:24]
    if not home.is_dir():
        _combine(base, own, home)
    return home


def _attribute_files(folder: Path) -> Iterator[Path]:
    """Yield the attribute files of a folder. Links and large files are left out."""
    found = 0
    for path in sorted((*folder.glob("*.yaml"), *folder.glob("*/*.yaml"))):
        is_placed = path.parent == folder or _LANGUAGE.fullmatch(path.parent.name)
        is_linked = path.is_symlink() or path.parent.is_symlink()
        if is_placed and not is_linked and _NAME.fullmatch(path.name) and path.stat().st_size <= MAX_BYTES:
            found += 1
            if found > MAX_FILES:
                return
            yield path


def _combine(base: Path, own: Mapping[str, Path], home: Path) -> None:
    temporary = home.parent / f".{home.name}.{secrets.token_hex(4)}"
    temporary.mkdir(parents=True)
    try:
        for path in _vocabulary_files(base):
            target = temporary / path.relative_to(base)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.symlink(path.resolve(), target)
        for name, path in own.items():
            target = temporary / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            shutil.copyfile(path, target)
        if not home.is_dir():
            rename_directory(temporary, home)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _vocabulary_files(base: Path) -> Iterator[Path]:
    """Yield the files of a vocabulary, without the folders of results that a checkout has beside it.

    Files are linked one by one. A link to a folder would make builders of packages visit it twice.
    """
    for entry in sorted(base.iterdir()):
        if entry.name in RESULTS or entry.name.startswith("."):
            continue
        files = entry.rglob("*") if entry.is_dir() else [entry]
        yield from (path for path in sorted(files) if path.is_file())


def own_attribute_files(data_dir: Path, questions: Iterable[Question]) -> dict[str, Path]:
    """Return the attribute files of questions that this program does not ship, by name in the folder."""
    shipped = shipped_data() / FOLDER
    pending = sorted({q.attribute for q in questions})
    seen: set[str] = set()
    files: dict[str, Path] = {}
    while pending:
        name = pending.pop()
        if name in seen:
            continue
        seen.add(name)
        folder = data_dir / FOLDER
        for path in (folder / f"{name}.yaml", *sorted(folder.glob(f"*/{name}.yaml"))):
            relative = path.relative_to(folder)
            if path.is_file() and not _is_same(path, shipped / relative):
                files[relative.as_posix()] = path
        pending += [part.attribute for part in read_attribute(data_dir, name).product.values()]
    return dict(sorted(files.items()))


def keep_attribute_files(data_dir: Path, run_dir: Path) -> None:
    """Copy the attribute files that this program does not ship into a run, so that its pages find them."""
    shipped = shipped_data() / FOLDER
    for path in _attribute_files(data_dir / FOLDER):
        relative = path.relative_to(data_dir / FOLDER)
        if not _is_same(path, shipped / relative):
            target = run_dir / FOLDER / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(target, path.read_bytes())


def _is_same(path: Path, other: Path) -> bool:
    return other.is_file() and path.read_bytes() == other.read_bytes()
