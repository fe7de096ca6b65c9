"""Releases with odd cells in their tables, under hashes that fit: they are explained or taken as data."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.compare import run_compare
from flows.options import read_options
from flows.run import run_diff, run_export, run_show
from schemas.errors import CounterfoilError
from schemas.options import CompareOptions, DiffOptions, ExportOptions, ShowOptions
from schemas.question import QUESTIONS
from tasks.files.arrow_stream import stream_arrow
from tasks.gate import examine_path
from tasks.publish import verify
from tasks.release import open_release
from tests.security.guards import guarded
from tests.security.hostile import change_manifest, copy_release

TEXTS = (
    "", " ", "\0", "../../x", "/etc/passwd", "=HYPERLINK(1)", "\x1b[2J", "\u009b2J", "\u202e",
    "\u2028", "a\nb", "<script>alert(1)</script>", "{{a/b", "}}", "{noun}", "{{" * 500, "null", "[]", "{",
    "[" * 500, "9" * 400, "x" * 100_000, "é" * 3_000, "日本語", "١", "https://stranger.example/x",
    "!!python/object:os.system", "%s%n", "${x}", "{0.__class__}", "en-../../x", "gender", "open", "placebo",
    "1.0.0", "2026-99-99", "0" * 64, "sha256:", "\ufeff", "\uffff",
)  # fmt: skip
NUMBERS = (0, -1, 1, 2**31, -(2**63), 2**63 - 1)
FLOATS = (0.0, -0.0, 1e308, -1e308, 5e-324, float("nan"), float("inf"), float("-inf"), 1.5)
JSON_TEXTS = (
    "{}",
    "[]",
    "[[]]",
    '{"a": [null]}',
    "1e999",
    '"\\ud800"',
    '{"a": 1, "a": 2}',
    "[" * 80 + "]" * 80,
)


def odd_value(kind: Any, chance: random.Random, depth: int = 0) -> Any:
    """Return an odd value of an Arrow type."""
    if chance.random() < 0.15:
        return None
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return chance.choice(TEXTS + JSON_TEXTS)
    if pa.types.is_boolean(kind):
        return chance.random() < 0.5
    if pa.types.is_integer(kind):
        return chance.choice(NUMBERS) if kind.bit_width == 64 else chance.choice((0, 1, 2))
    if pa.types.is_floating(kind):
        return chance.choice(FLOATS)
    if pa.types.is_list(kind):
        count = chance.choice((0, 0, 1, 2, 3, 40)) if depth < 2 else 1
        return [odd_value(kind.value_type, chance, depth + 1) for _ in range(count)]
    if pa.types.is_struct(kind):
        return {field.name: odd_value(field.type, chance, depth + 1) for field in kind}
    return datetime.datetime(1, 1, 1) if pa.types.is_timestamp(kind) else None


def change_inside(value: Any, kind: Any, chance: random.Random) -> Any:
    """Replace a value, or a part of a list or a record."""
    if pa.types.is_list(kind) and value and chance.random() < 0.7:
        at = chance.randrange(len(value))
        changed = change_inside(value[at], kind.value_type, chance)
        return [*value[:at], changed, *value[at + 1 :]]
    if pa.types.is_struct(kind) and value and chance.random() < 0.8:
        field = kind.field(chance.randrange(kind.num_fields))
        return {**value, field.name: change_inside(value[field.name], field.type, chance)}
    return odd_value(kind, chance)


def change_table(table: pa.Table, chance: random.Random) -> pa.Table:
    """Change cells, rows or columns of a table."""
    kind = chance.randrange(10)
    if kind == 0:
        return table.slice(0, chance.choice((0, 1)))
    if kind == 1:
        return pa.concat_tables([table, table.slice(0, chance.choice((1, len(table))))])
    if kind == 2:
        return table.take(pa.array(chance.sample(range(len(table)), len(table))))
    for _ in range(chance.choice((1, 1, 2, 6))):
        number = chance.randrange(table.num_columns)
        field = table.schema.field(number)
        values = table.column(number).to_pylist()
        rows = range(len(values)) if kind == 3 else [chance.randrange(len(values))]
        for row in rows:
            values[row] = change_inside(values[row], field.type, chance)
        plain = field.with_nullable(True)
        table = table.set_column(number, plain, pa.array(values, field.type))
    return table


def change_release(release: Path, chance: random.Random) -> str:
    """Change a table of a release, and describe it. The hashes and the counts of rows fit."""
    file = chance.choice(sorted((release / "data").rglob("*.parquet")))
    table = pq.read_table(file)
    if len(table):
        pq.write_table(change_table(table, chance), file)
    name = file.relative_to(release).as_posix()
    rows = pq.read_metadata(file).num_rows

    def fit(manifest: dict[str, Any]) -> None:
        config = file.parent.name
        if config in manifest.get("rows", {}):
            manifest["rows"][config] = rows

    change_manifest(release, fit)
    return name


def rows(release: Path, original: Path) -> Any:
    return open_release(release).contents.rows(QUESTIONS)


def show(release: Path, original: Path) -> Any:
    return run_show(read_options(ShowOptions, {"place": release}))


def diff(release: Path, original: Path) -> Any:
    return run_diff(read_options(DiffOptions, {"old": original, "new": release}))


def compare(release: Path, original: Path) -> Any:
    return run_compare(read_options(CompareOptions, {"release": original, "other": release}))


def export(release: Path, original: Path) -> Any:
    out = release.parent.parent / "exported"
    return run_export(read_options(ExportOptions, {"release": release, "format": "csv", "out": out}))


QUICK: tuple[Callable[[Path, Path], Any], ...] = (
    lambda release, original: verify(str(release)),
    rows,
    show,
)
SLOW = (*QUICK, diff, compare, export, lambda release, original: examine_path(release))


def check_cells(
    original: Path, folder: Path, seeds: range, readers: tuple[Callable[[Path, Path], Any], ...]
) -> None:
    for seed in seeds:
        chance = random.Random(seed)
        copy = copy_release(original, folder / "copies")
        changed = change_release(copy, chance)
        for read in readers:
            try:
                with guarded(folder) as guard:
                    result = read(copy, original)
                with contextlib.suppress(TypeError):
                    json.dumps(result, default=str)
            except CounterfoilError:
                pass
            except Exception as error:
                name = getattr(read, "__name__", "reader")
                raise AssertionError(f"seed {seed}, {changed}, {name}: {error!r}") from error
            assert guard.connections == []
        shutil.rmtree(folder / "copies")
        shutil.rmtree(folder / "exported", ignore_errors=True)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COUNTERFOIL_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_odd_cells_are_explained_or_read(small_release: Path, home: Path) -> None:
    check_cells(small_release, home, range(3), QUICK)


LONG = int(os.environ.get("COUNTERFOIL_FUZZ_CELLS", "24"))


@pytest.mark.slow
def test_odd_cells_are_explained_or_read_by_every_reader(small_release: Path, home: Path) -> None:
    check_cells(small_release, home, range(1_000, 1_000 + LONG), SLOW)


def write_arrow(path: Path, table: pa.Table, chance: random.Random) -> None:
    """Write a stream, and damage some of its bytes."""
    options = pa.ipc.IpcWriteOptions(compression=chance.choice((None, "zstd", "lz4")))
    with pa.ipc.new_stream(str(path), table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=7)
    content = bytearray(path.read_bytes())
    for _ in range(chance.choice((0, 1, 1, 3, 20))):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content[: chance.randrange(len(content))] if chance.random() < 0.1 else content)


def check_arrow(path: Path, seeds: range) -> None:
    table = pa.table(
        {
            "query": [f"q{n}" for n in range(20)],
            "neg": [["x", None] * (n % 3) for n in range(20)],
            "record": [{"a": n, "b": str(n)} for n in range(20)],
            "category": pa.array(["a", "b"] * 10).dictionary_encode(),
        }
    )
    for seed in seeds:
        chance = random.Random(seed)
        write_arrow(path, table, chance)
        try:
            for batch in stream_arrow(path, 5):
                batch.to_pylist()
        except (CounterfoilError, pa.ArrowException, OSError, UnicodeDecodeError):
            pass  # `read_records` explains those of Arrow


def test_damaged_arrow_streams_are_refused_or_read(tmp_path: Path) -> None:
    check_arrow(tmp_path / "x.arrow", range(150))


@pytest.mark.slow
def test_damaged_arrow_streams_are_refused_or_read_for_long(tmp_path: Path) -> None:
    check_arrow(tmp_path / "x.arrow", range(10_000, 20_000))
