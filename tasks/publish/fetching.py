"""Compare release directories with their manifests and cards, and fetch published releases.

`org/name@v1.2.0` is fetched once and then found offline.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import mkdtemp

import pyarrow.parquet as pq
import yaml

from schemas.errors import InputError, PublishError
from schemas.release import Manifest
from tasks.checks.release_files import check_listed_files, open_release_files
from tasks.publish.hub import Hub, read_card_metadata, with_retries
from tasks.release import config_file, read_manifest
from tasks.release.references import HubRef, commit_file, find_fetched_release, parse_reference
from tasks.run.store import rename_directory, write_bytes


def find_differing_files(path: Path, manifest: Manifest) -> list[str]:
    """Return one line per file that differs from the manifest, sorted."""
    problems = check_listed_files(path, manifest)
    return sorted(f"{row}: {problem.message}" for problem in problems for row in problem.rows)


def find_differences(path: Path) -> list[str]:
    """Return one line per difference in files, row counts, the canary, and the columns of the card."""
    problems = [p for p in open_release_files(path).problems if p.table == "files"]
    lines = {f"{row}: {p.message}" for p in problems for row in p.rows}
    return sorted(lines | set(compare_columns_with_card(path)))


def compare_columns_with_card(path: Path) -> list[str]:
    """Return one line per config whose columns are not those in the `dataset_info` of the card."""
    from datasets import Features

    lines = []
    for name, features in _card_features(path).items():
        file = path / config_file(name)
        if not file.is_file():
            lines.append(f"{config_file(name)}: the card names this config, but the file does not exist")
            continue
        try:
            columns = pq.read_schema(file)
        except (OSError, ValueError):
            continue  # `open_release_files` reports unreadable files
        if not columns.equals(Features._from_yaml_list(features).arrow_schema, check_metadata=False):
            lines.append(f"{config_file(name)}: the columns are not those of the card")
    return lines


def _card_features(path: Path) -> dict[str, list[dict[str, object]]]:
    """Return the features of each config in the card. They are empty if the card cannot be read."""
    try:
        infos = (read_card_metadata(path / "README.md") or {}).get("dataset_info", [])
        return {info["config_name"]: info["features"] for info in infos}
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        return {}


def fetch_release(ref: str, cache_dir: Path, hub: Hub | None = None) -> Path:
    """Fetch a published release, or find it in the cache.

    A fetched version is never looked up again, because its tag does not move. The directory is complete, or
    it does not exist.

    Returns:
        The directory `cache_dir/<org>/<name>/<commit>`.

    Raises:
        InputError: If the release does not exist.
        PublishError: If it cannot be downloaded, or its files do not match its manifest.
    """
    reference = parse_reference(ref)
    fetched = find_fetched_release(ref, cache_dir)
    if fetched is not None:
        return fetched
    client = hub or Hub()
    folder = cache_dir / reference.repo
    folder.mkdir(parents=True, exist_ok=True)
    commit = with_retries(lambda: resolve_commit(reference, client))
    home = folder / commit
    if not home.is_dir():
        with_retries(lambda: _download(reference, commit, home, client))
    write_bytes(commit_file(reference, cache_dir), commit.encode())
    return home


def resolve_commit(ref: HubRef, hub: Hub) -> str:
    """Return the commit of a tag.

    Raises:
        InputError: If the tag does not exist.
    """
    tags = hub.read_state(ref.repo).tags
    if ref.tag not in tags:
        names = ", ".join(sorted(tags)) or "none"
        raise InputError(f"{ref.repo} has no tag {ref.tag!r}", hint=f"available tags: {names}")
    return tags[ref.tag]


def _download(ref: HubRef, commit: str, home: Path, hub: Hub) -> None:
    temporary = Path(mkdtemp(prefix=f".{commit}.", dir=home.parent))
    try:
        hub.download(ref.repo, commit, temporary)
        for hidden in temporary.glob(".*"):
            shutil.rmtree(hidden) if hidden.is_dir() else hidden.unlink()
        manifest = read_manifest(temporary)
        differences = find_differing_files(temporary, manifest)
        if differences or not ref.fits(manifest):
            raise PublishError(
                "\n".join([f"{ref.repo}@{ref.tag} does not match its manifest:", *differences]),
                hint=f"run counterfoil verify {ref.repo}@{ref.tag}",
            )
        if not home.is_dir():
            rename_directory(temporary, home)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
