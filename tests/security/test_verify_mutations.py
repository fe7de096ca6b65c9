"""`verify` names every fault of a damaged release and never ends in an error of another kind."""

from __future__ import annotations

import importlib
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import CounterfoilError
from tasks.gate import examine_path
from tasks.publish import verify
from tasks.release import open_release
from tests.security.guards import guarded
from tests.security.hostile import change_manifest, copy_release

ODD: tuple[Any, ...] = (
    None, True, -1, 10**400, 1e308, "", "../..", "\x1b[2J", "\0", "9" * 5000, [], {}, [[]], {"a": {}}, [None],
    "١.٠.٠", {"": ""}, ["x"] * 50, "é" * 5000,
)  # fmt: skip
YAML = (
    b"a: " + b"[" * 100_000,
    b"a: &a [x, x]\nb: &b [*a, *a, *a]\nc: [*b, *b, *b, *b]",
    b"dataset_info: 3",
    b"dataset_info: [{config_name: questions, features: [{name: id, dtype: nonsense}]}]",
    b"dataset_info:\n- config_name: [1]\n  features: {}",
    b"{[1]: 2}",
    b"x: " + b"9" * 9999,
    b"x: 2026-99-99",
)


def mutate_bytes(path: Path, chance: random.Random) -> None:
    """Flip, cut, repeat or insert bytes of one file."""
    files = sorted(p for p in path.rglob("*") if p.is_file())
    file = chance.choice(files)
    content = bytearray(file.read_bytes())
    for _ in range(chance.choice((1, 1, 1, 5, 40))):
        at = chance.randrange(len(content) + 1)
        kind = chance.randrange(5)
        if kind == 0 and content:
            content[at % len(content)] ^= 1 << chance.randrange(8)
        elif kind == 1:
            del content[at : at + chance.randrange(1, 200)]
        elif kind == 2:
            content[at:at] = chance.randbytes(chance.randrange(1, 30))
        elif kind == 3:
            content[at:at] = content[at : at + chance.randrange(1, 300)]
        else:
            content = content[: at or 1]
    file.write_bytes(content)


def mutate_value(path: Path, chance: random.Random) -> None:
    """Replace one value somewhere in the manifest by an odd one, under hashes that fit."""

    def change(manifest: dict[str, Any]) -> None:
        node: Any = manifest
        while True:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            key = chance.choice(keys)
            inner = node[key]
            if isinstance(inner, (dict, list)) and inner and chance.random() < 0.8:
                node = inner
                continue
            if chance.random() < 0.2 and isinstance(node, dict):
                del node[key]
            else:
                node[key] = chance.choice(ODD)
            return

    change_manifest(path, change)


def mutate_card(path: Path, chance: random.Random) -> None:
    """Replace a part of the front matter of the card, under hashes that fit."""
    card = path / "README.md"
    lines = card.read_bytes().split(b"\n")
    end = lines[1:].index(b"---") + 1
    at = chance.randrange(0, end + 1)
    odd = (chance.choice(YAML), b"---", b"  - " + chance.randbytes(9), lines[chance.randrange(end)])
    lines[at : at + chance.choice((0, 1, 4))] = [chance.choice(odd)]
    if chance.random() < 0.3:
        lines = [b"---", chance.choice(YAML), b"---", *lines[end + 1 :]]
    card.write_bytes(b"\n".join(lines))
    change_manifest(path, lambda manifest: None)


def mutate_tree(path: Path, chance: random.Random) -> None:
    """Remove, swap or replace files and folders."""
    files = sorted(p for p in path.rglob("*") if p.is_file())
    first, second = chance.sample(files, 2)
    kind = chance.randrange(5)
    if kind == 0:
        first.unlink()
    elif kind == 1:
        first.write_bytes(second.read_bytes())
    elif kind == 2:
        first.unlink()
        first.mkdir()
    elif kind == 3:
        first.unlink()
        first.symlink_to(second)
    elif first.name != "manifest.json":
        first.write_bytes(second.read_bytes())
        change_manifest(path, lambda manifest: None)


MUTATIONS: tuple[Callable[[Path, random.Random], None], ...] = (
    mutate_bytes,
    mutate_value,
    mutate_card,
    mutate_tree,
)


def check_mutations(release: Path, folder: Path, seeds: range) -> int:
    """Verify a mutated copy per seed. Return how many were not the release any more."""
    found = 0
    importlib.import_module("datasets")  # looks for a folder of temporary files, which the guard refuses
    for seed in seeds:
        chance = random.Random(seed)
        copy = copy_release(release, folder)
        MUTATIONS[seed % len(MUTATIONS)](copy, chance)
        before = {p: p.lstat().st_mtime_ns for p in copy.rglob("*")}
        try:
            with guarded() as guard:
                result = verify(str(copy))
        except CounterfoilError:
            assert not (copy / "manifest.json").exists(), seed
        except Exception as error:
            raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
        else:
            found += not result.verified
            assert result.verified == (not result.differences)
            assert all(line.isprintable() for line in result.differences), seed
            json.dumps(result.model_dump(mode="json"))
        assert {p: p.lstat().st_mtime_ns for p in copy.rglob("*")} == before
        assert guard.writes == []
        shutil.rmtree(copy.parent)
    return found


def test_damaged_releases_are_explained(small_release: Path, tmp_path: Path) -> None:
    assert check_mutations(small_release, tmp_path, range(12)) > 6


LONG = int(os.environ.get("COUNTERFOIL_FUZZ_RELEASES", "3000"))
"""Releases in the slow test. 10,000 take nine minutes."""
PARTS = 4


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_thousands_of_damaged_releases_are_explained(small_release: Path, tmp_path: Path, part: int) -> None:
    seeds = range(part * LONG // PARTS, (part + 1) * LONG // PARTS)
    assert check_mutations(small_release, tmp_path, seeds) > len(seeds) // 2


@pytest.mark.slow
def test_damaged_releases_are_refused_by_every_reader(small_release: Path, tmp_path: Path) -> None:
    for seed in range(16):
        copy = copy_release(small_release, tmp_path)
        MUTATIONS[seed % len(MUTATIONS)](copy, random.Random(seed))
        for read in (open_release, examine_path):
            try:
                read(copy)
            except CounterfoilError:
                pass
            except Exception as error:
                raise AssertionError(f"seed {seed}, {read.__name__}: {error!r}") from error
        shutil.rmtree(copy.parent)
