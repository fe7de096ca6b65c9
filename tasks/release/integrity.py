"""What a directory of release files should be, and is not: one line for every file that differs."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import yaml

from schemas.manifest import Manifest
from tasks.checks.release_files import check_hashes, open_release_files
from tasks.release.configs import data_file


def differing_files(path: Path, manifest: Manifest) -> list[str]:
    """`file: what is wrong with it`, sorted; empty where every byte is the one that was released."""
    return sorted(f"{row}: {found.message}" for found in check_hashes(path, manifest) for row in found.rows)


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
        file = path / data_file(name)
        if not file.is_file():
            lines.append(f"{data_file(name)}: the card names this config, and there is no such file")
            continue
        try:
            columns = pq.read_schema(file)
        except (OSError, ValueError):
            continue  # told already, as a file that cannot be read
        if not columns.equals(Features._from_yaml_list(features).arrow_schema, check_metadata=False):
            lines.append(f"{data_file(name)}: the columns are not those that the card promises")
    return lines


def _promised(path: Path) -> dict[str, list[dict[str, object]]]:
    """Config to features, from the card's front matter; nothing where it has none that can be read."""
    try:
        parts = (path / "README.md").read_text(encoding="utf-8").split("---\n", 2)
        matter = yaml.safe_load(parts[1]) if len(parts) == 3 and not parts[0] else {}
        return {info["config_name"]: info["features"] for info in (matter or {}).get("dataset_info", [])}
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        return {}
