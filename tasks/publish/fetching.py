"""Compare release directories with their manifests and cards, and fetch published releases.

`org/name@v1.2.0` is fetched once and then found offline.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pyarrow as pa

from schemas.errors import InputError, PublishError
from schemas.release import Manifest
from tasks.checks.release_files import check_listed_files, open_release_files
from tasks.files.bounded import read_schema
from tasks.files.yaml import load_yaml
from tasks.publish.hub import MAIN, Hub, with_retries
from tasks.release import CONFIGS, MANIFEST, describe_hash_difference, list_config_files, read_manifest
from tasks.release.references import HubRef, commit_file, find_fetched_release, parse_reference
from tasks.run.paths import inside
from tasks.run.store import rename_directory, write_bytes
from tasks.text.printable import printable

CARD = "README.md"
MAX_CARD_BYTES = 16 << 20


def find_differing_files(path: Path, manifest: Manifest) -> list[str]:
    """Return one line per file that differs from the manifest, sorted."""
    problems = check_listed_files(path, manifest)
    return sorted(
        f"{printable(row)}: {printable(problem.message)}" for problem in problems for row in problem.rows
    )


def find_differences(path: Path) -> list[str]:
    """Return one line per difference in files, row counts, the canary, and the columns of the card."""
    problems = [p for p in open_release_files(path).problems if p.table == "files"]
    lines = {f"{printable(row)}: {printable(p.message)}" for p in problems for row in p.rows}
    if difference := describe_hash_difference(path):
        lines.add(difference)
    is_card_changed = any(CARD in p.rows for p in problems)
    return sorted(lines if is_card_changed else lines | set(compare_columns_with_card(path)))


def compare_columns_with_card(path: Path) -> list[str]:
    """Return one line per config with columns that differ from the `dataset_info` of the card."""
    card = path / CARD
    if card.is_symlink() or not card.is_file():
        return []  # `open_release_files` reports it
    try:
        described = read_card_features(card)
    except InputError as error:
        return [f"{CARD}: the front matter cannot be read: {printable(error.message, 300)}"]
    try:
        empty = {name for name, rows in read_manifest(path).rows.items() if not rows}
    except InputError:
        empty = set()  # `open_release_files` reports the manifest, and compares its counts with the tables
    lines = []
    for config in CONFIGS:
        name = list_config_files(path, config)[0]
        file = path / name
        if not file.is_file() or file.is_symlink():
            if config in described:
                lines.append(f"{name}: the card names this config, but the file does not exist")
            continue
        if config not in described and config not in empty:
            lines.append(f"{name}: the card does not describe the columns of this config")
            continue
        if config not in described:  # the card leaves out configs without rows, which `datasets` cannot read
            continue
        try:
            columns = read_schema(file)
        except (OSError, ValueError, InputError):
            continue  # `open_release_files` reports unreadable files
        expected = described[config]
        if expected is None:
            lines.append(f"{name}: the description of its columns in the card cannot be read")
        elif not columns.equals(expected, check_metadata=False):
            lines.append(f"{name}: the columns are not those of the card")
    unknown = sorted(printable(name, 80) for name in described if name not in CONFIGS)
    return lines + [f"{CARD}: it describes {name!r}, which is no config of a release" for name in unknown]


def read_card_features(card: Path) -> dict[str, pa.Schema | None]:
    """Return the columns of each config that a card describes. `None` if a description cannot be read.

    Raises:
        InputError: If the front matter is not readable, or describes no configs.
    """
    infos = read_card_metadata(card).get("dataset_info", [])
    infos = [infos] if isinstance(infos, dict) else infos
    if not isinstance(infos, list) or not infos or not all(isinstance(info, dict) for info in infos):
        raise InputError("`dataset_info` is not a list of configs", place=str(card))
    described: dict[str, pa.Schema | None] = {}
    for info in infos:
        name = str(info.get("config_name"))
        if name in described:
            raise InputError(f"`dataset_info` describes {name!r} twice", place=str(card))
        try:
            described[name] = plain_schema(info["features"]) or _schema_of_library(info["features"])
        except Exception:  # the library checks nothing, so any error may come out
            described[name] = None
    return described


PLAIN_TYPES: dict[str, pa.DataType] = {
    "string": pa.string(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
}
"""The types of the columns of a release, by their names in a card."""


def plain_schema(features: Any) -> pa.Schema | None:
    """Return the columns of a config, if its description has only the forms that releases use.

    Importing `datasets` takes most of the time of `verify`, so it reads only what this function cannot.
    """
    fields = _plain_fields(features)
    return None if fields is None else pa.schema(fields)


def _plain_fields(features: Any) -> list[pa.Field] | None:
    if not isinstance(features, list):
        return None
    fields = []
    for feature in features:
        if not isinstance(feature, dict) or not isinstance(feature.get("name"), str) or len(feature) != 2:
            return None
        kind = _plain_type({key: value for key, value in feature.items() if key != "name"})
        if kind is None:
            return None
        fields.append(pa.field(feature["name"], kind))
    return fields


def _plain_type(described: Any) -> pa.DataType | None:
    """Return the type of `{dtype: string}`, `{list: …}` or `{struct: […]}`, or None for any other form."""
    if isinstance(described, str):
        return PLAIN_TYPES.get(described)
    if isinstance(described, list):
        fields = _plain_fields(described)
        return None if fields is None else pa.struct(fields)
    if not isinstance(described, dict) or len(described) != 1:
        return None
    ((form, inner),) = described.items()
    if form == "dtype":
        return PLAIN_TYPES.get(inner) if isinstance(inner, str) else None
    found = _plain_type(inner) if form in ("list", "struct") else None
    return pa.list_(found) if form == "list" and found is not None else found


def _schema_of_library(features: Any) -> pa.Schema:
    from datasets import Features

    return Features._from_yaml_list(features).arrow_schema


def read_card_metadata(card: Path) -> dict[str, Any]:
    """Return the front matter of a card.

    Raises:
        InputError: If there is none, or it is not valid YAML of a reasonable size and depth.
    """
    if card.stat().st_size > MAX_CARD_BYTES:
        raise InputError(f"{CARD} is larger than {MAX_CARD_BYTES >> 20} MiB", place=str(card))
    try:
        text = card.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{CARD} is not UTF-8 text (byte {error.start})", place=str(card)) from None
    found = re.match(r"---[ \t]*\n(.*?)\n---[ \t]*(\n|\Z)", text, re.DOTALL)
    if found is None:
        raise InputError("it does not begin with `---`", place=str(card))
    metadata = load_yaml(found[1], place=str(card))
    if not isinstance(metadata, dict):
        raise InputError("it is not a mapping", place=str(card))
    return metadata


def fetch_dataset(ref: str, cache_dir: Path, hub: Hub | None = None) -> Path:
    """Fetch any published dataset like a release. One without a manifest has nothing to be compared with.

    Returns:
        The directory `cache_dir/<org>/<name>/<commit>`.

    Raises:
        InputError: If the dataset does not exist.
        PublishError: If it cannot be downloaded, or its files do not match its manifest.
    """
    return fetch_release(ref, cache_dir, hub, needs_manifest=False)


def fetch_release(ref: str, cache_dir: Path, hub: Hub | None = None, *, needs_manifest: bool = True) -> Path:
    """Fetch a published release, or find it in the cache.

    A fetched version is never looked up again, because its tag does not move. The branch `main` moves, so it
    is looked up every time. The directory is complete, or it does not exist.

    Returns:
        The directory `cache_dir/<org>/<name>/<commit>`.

    Raises:
        InputError: If the release does not exist.
        PublishError: If it cannot be downloaded, or its files do not match its manifest.
    """
    reference = parse_reference(ref)
    fetched = find_fetched_release(ref, cache_dir)
    if fetched is not None and reference.tag != MAIN:
        return fetched
    client = hub or Hub()
    folder = cache_dir / reference.repo
    folder.mkdir(parents=True, exist_ok=True)
    commit = with_retries(lambda: resolve_commit(reference, client))
    home = inside(folder, commit)
    if not home.is_dir():
        with_retries(lambda: _download(reference, commit, home, client, needs_manifest=needs_manifest))
    write_bytes(commit_file(reference, cache_dir), commit.encode())
    return home


def resolve_commit(ref: HubRef, hub: Hub) -> str:
    """Return the commit of a tag, of the branch `main`, or of a full commit id.

    Raises:
        InputError: If the revision does not exist.
    """
    if re.fullmatch(r"[0-9a-f]{40}", ref.tag):
        return ref.tag
    state = hub.read_state(ref.repo)
    revisions: dict[str, str] = {MAIN: state.main, **state.tags}
    if ref.tag not in revisions:
        names = ", ".join(sorted(state.tags)) or "none"
        raise InputError(
            f"{ref.repo} has no tag {ref.tag!r}", hint=f"available tags: {names}; `main` or a commit work too"
        )
    return revisions[ref.tag]


def _download(ref: HubRef, commit: str, home: Path, hub: Hub, *, needs_manifest: bool) -> None:
    temporary = Path(mkdtemp(prefix=f".{commit}.", dir=home.parent))
    try:
        hub.download(ref.repo, commit, temporary)
        for hidden in temporary.glob(".*"):
            shutil.rmtree(hidden) if hidden.is_dir() else hidden.unlink()
        has_manifest = needs_manifest or (temporary / MANIFEST).is_file()
        manifest = read_manifest(temporary) if has_manifest else None
        differences = find_differing_files(temporary, manifest) if manifest else []
        if differences or not (manifest is None or ref.fits(manifest)):
            raise PublishError(
                "\n".join([f"{ref.repo}@{ref.tag} does not match its manifest:", *differences]),
                hint=f"run counterfoil verify {ref.repo}@{ref.tag}",
            )
        if not home.is_dir():
            rename_directory(temporary, home)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
