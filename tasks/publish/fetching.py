"""What a directory of release files should be, and is not: one line for every file that differs."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import mkdtemp

import pyarrow.parquet as pq
import yaml

from schemas.errors import InputError, PublishError
from schemas.release import Manifest
from tasks.checks.release_files import check_listed_files, open_release_files
from tasks.publish.hub import Hub, with_retries
from tasks.release import config_file, read_manifest
from tasks.release.references import HubRef, commit_file, find_fetched_release, parse_reference
from tasks.run.store import sync_directory, write_bytes


def differing_files(path: Path, manifest: Manifest) -> list[str]:
    """`file: what is wrong with it`, sorted; empty where every byte is the one that was released."""
    return sorted(f"{row}: {found.message}" for found in check_listed_files(path, manifest) for row in found.rows)


def differences(path: Path) -> list[str]:
    """The same, with row counts, the canary, and columns that are not those that the card promises."""
    found = [p for p in open_release_files(path).problems if p.table == "files"]
    lines = {f"{row}: {p.message}" for p in found for row in p.rows}
    return sorted(lines | set(columns_unlike_card(path)))


def columns_unlike_card(path: Path) -> list[str]:
    """Configs whose columns or types are not those of the card's `dataset_info`."""
    from datasets import Features

    lines = []
    for name, features in _promised(path).items():
        file = path / config_file(name)
        if not file.is_file():
            lines.append(f"{config_file(name)}: the card names this config, and there is no such file")
            continue
        try:
            columns = pq.read_schema(file)
        except (OSError, ValueError):
            continue  # told already, as a file that cannot be read
        if not columns.equals(Features._from_yaml_list(features).arrow_schema, check_metadata=False):
            lines.append(f"{config_file(name)}: the columns are not those that the card promises")
    return lines


def _promised(path: Path) -> dict[str, list[dict[str, object]]]:
    """Config to features, from the card's front matter; nothing where it has none that can be read."""
    try:
        parts = (path / "README.md").read_text(encoding="utf-8").split("---\n", 2)
        matter = yaml.safe_load(parts[1]) if len(parts) == 3 and not parts[0] else {}
        return {info["config_name"]: info["features"] for info in (matter or {}).get("dataset_info", [])}
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        return {}


# Published releases as input: `org/name@v1.2.0` is fetched whole, once, and then found offline.


def fetch_release(ref: str, cache_dir: Path, hub: Hub | None = None) -> Path:
    """The directory of a published release, under `cache_dir/<org>/<name>/<commit>`.

    It is there whole or not at all. A version that was fetched before is found without asking the Hub: its
    tag never moves. Raises `InputError` where there is none, `PublishError` where it cannot be had whole.
    """
    wanted = parse_reference(ref)
    found = find_fetched_release(ref, cache_dir)
    if found is not None:
        return found
    asked = hub or Hub()
    line = cache_dir / wanted.repo
    line.mkdir(parents=True, exist_ok=True)
    commit = with_retries(lambda: commit_of(wanted, asked))
    home = line / commit
    if not home.is_dir():
        with_retries(lambda: _download(wanted, commit, home, asked))
    write_bytes(commit_file(wanted, cache_dir), commit.encode())
    return home


def commit_of(ref: HubRef, hub: Hub) -> str:
    """Return the commit that the tag names. Raise `InputError` if there is no such tag."""
    tags = hub.look(ref.repo).tags
    if ref.tag not in tags:
        there = ", ".join(sorted(tags)) or "none"
        raise InputError(f"{ref.repo} has no tag {ref.tag!r}", hint=f"its tags: {there}")
    return tags[ref.tag]


def _download(wanted: HubRef, commit: str, home: Path, hub: Hub) -> None:
    room = Path(mkdtemp(prefix=f".{commit}.", dir=home.parent))
    try:
        hub.download(wanted.repo, commit, room)
        for hidden in room.glob(".*"):
            shutil.rmtree(hidden) if hidden.is_dir() else hidden.unlink()
        manifest = read_manifest(room)
        wrong = differing_files(room, manifest)
        if wrong or not wanted.fits(manifest):
            raise PublishError(
                "\n".join([f"{wanted.repo}@{wanted.tag} is not what its manifest says:", *wrong]),
                hint=f"counterfoil verify {wanted.repo}@{wanted.tag}",
            )
        if not home.is_dir():
            room.rename(home)
            sync_directory(home.parent)
    finally:
        shutil.rmtree(room, ignore_errors=True)
