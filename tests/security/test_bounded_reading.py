"""Files of unknown origin cannot take the memory, the stack or the time of the program."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.errors import InputError
from schemas.recipe import Recipe
from tasks.files import bounded
from tasks.files.bounded import TooLargeError, read_parquet
from tasks.files.depth import check_json_lines, read_json
from tasks.files.yaml import load_yaml, parse_yaml
from tasks.text.printable import printable, strip_controls
from tests.security.commands import run_here

COUNTERFOIL = Path(sys.executable).with_name("counterfoil")
LETTERS = "abcdefgh"


def repeated(start: str, link: Callable[[str, str], str]) -> str:
    return start + "".join(link(a, b) for a, b in itertools.pairwise(LETTERS))


TEXTS = {
    "flow": "a: " + "[" * 200_000,
    "closed flow": "a: " + "[" * 200_000 + "]" * 200_000,
    "block": "- " * 5_000 + "x",
    "laughs": repeated("a: &a [x]\n", lambda a, b: f"{b}: &{b} [{','.join([f'*{a}'] * 20)}]\n"),
    "merge keys": repeated("a: &a {x: 1}\n", lambda a, b: f"{b}: &{b} {{<<: [{','.join(['*' + a] * 9)}]}}\n"),
    "itself": "a: &a [*a]",
    "chain": "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 3_000)),
    "huge number": "seed: " + "9" * 10_000,
    "date": "seed: 2026-99-99",
    "key that is a list": "{[1, 2]: x}",
    "key that is a mapping": "? {a: b}\n: c",
    "object": "a: !!python/object/apply:os.system [id]",
    "timestamp": "a: !!timestamp x",
    "control": "a: \x1b[31m",
    "two documents": "a: 1\n---\nb: 2",
    "unknown alias": "a: *b",
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_odd_yaml_is_refused_at_once(name: str) -> None:
    began = time.process_time()
    with pytest.raises(InputError):
        parse_yaml(TEXTS[name], Recipe, place="recipe.yaml")
    assert time.process_time() - began < 20  # without bounds, minutes


def test_ordinary_aliases_and_merge_keys_are_read() -> None:
    content = load_yaml("base: &b {x: 1}\nmore: {<<: *b, y: 2}\nlist: [*b, *b]", place="x")
    assert content == {"base": {"x": 1}, "more": {"x": 1, "y": 2}, "list": [{"x": 1}, {"x": 1}]}


def test_every_mistake_of_a_recipe_is_listed() -> None:
    text = """
name: "../x"
seed: 99999999999999999999
attributes: [gender]
models: {targets: ["openai:x"]}
families: {open: {samples: -1, questions: 99999999999999999999, temperature: .inf}}
release: {repo: "../..", version: "١.٠.٠"}
budget: {usd: 1e999}
limits: {timeout_s: .inf, max_in_flight: 0}
"""
    with pytest.raises(InputError) as refused:
        parse_yaml(text, Recipe, place="recipe.yaml")
    for key in (
        "name",
        "seed",
        "families.open.samples",
        "families.open.questions",
        "families.open.temperature",
        "release.repo",
        "release.version",
        "budget.usd",
        "limits.timeout_s",
        "limits.max_in_flight",
    ):
        assert f"{key}: " in refused.value.message, key


@pytest.mark.parametrize(
    ("command", "suffix"), [("validate", "json"), ("relabel", "jsonl"), ("deduplicate", "jsonl")]
)
def test_deep_json_does_not_end_the_process(
    tmp_path: Path,
    suffix: str,
    command: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place = tmp_path / f"deep.{suffix}"
    place.write_text('{"query": ' + "[" * 200_000 + "]" * 200_000 + "}\n")
    extra = ("--text", "query", "--out", str(tmp_path / "out")) if command == "deduplicate" else ()
    assert run_here(monkeypatch, tmp_path / "home", command, place, *extra) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_brackets_in_texts_are_no_nesting(tmp_path: Path) -> None:
    lines = ['{"a": "' + "[{" * 500 + '", "b": "\\"' + "[" * 100 + '"}', "[" + "[1]," * 500 + "[1]]"]
    check_json_lines((line.encode() for line in lines), tmp_path)
    place = tmp_path / "x.json"
    place.write_text("[" * 65 + "]" * 65)
    with pytest.raises(InputError, match="nested more than 64 levels"):
        read_json(place)


@pytest.fixture(scope="module")
def bomb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of a few kilobytes that expands to more than 4 GB."""
    place = tmp_path_factory.mktemp("bomb") / "bomb.parquet"
    text = pa.array(["x" * 1_000_000]).dictionary_encode().dictionary
    rows = pa.DictionaryArray.from_arrays(pa.array([0] * 4_400, pa.int32()), text)
    nested = pa.ListArray.from_arrays(pa.array(range(4_401), pa.int32()), rows)
    pq.write_table(pa.table({"text": rows, "list": nested}), place, compression="zstd", store_schema=False)
    assert place.stat().st_size < 100_000
    return place


def test_small_file_does_not_expand_to_gigabytes(bomb: Path) -> None:
    code = (
        "import re, sys\nfrom pathlib import Path\nfrom tasks.files.bounded import read_parquet\n"
        "try:\n    read_parquet(Path(sys.argv[1]))\n"
        "except Exception as error:\n    print(type(error).__name__)\n"
        "status = Path('/proc/self/status').read_text()\n"
        "print(int(re.search(r'VmHWM:\\s+(\\d+)', status)[1]) >> 10)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, bomb], capture_output=True, text=True, timeout=60, check=True
    )
    kind, megabytes = done.stdout.split()
    assert kind == "TooLargeError"
    assert int(megabytes) < 1_000


def test_bomb_is_a_line_of_verify(bomb: Path, small_release: Path, tmp_path: Path) -> None:
    from tasks.publish import verify
    from tests.security.hostile import change_manifest, copy_release

    release = copy_release(small_release, tmp_path)
    name = "data/questions/test-00000-of-00001.parquet"
    (release / name).write_bytes(bomb.read_bytes())
    change_manifest(release, lambda manifest: None)
    assert any(line.startswith(name) and "MB" in line for line in verify(str(release)).differences)


@pytest.mark.parametrize(("limit", "value"), [("MAX_ROWS", 2), ("MAX_CELLS", 5), ("MAX_COLUMNS", 1)])
def test_limits_are_checked_in_the_metadata(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    pq.write_table(pa.table({"a": [1, 2, 3], "b": ["x", "y", None]}), tmp_path / "x.parquet")
    read_parquet(tmp_path / "x.parquet")
    monkeypatch.setattr(bounded, limit, value)
    with pytest.raises(TooLargeError):
        read_parquet(tmp_path / "x.parquet")


def test_bounded_reader_returns_the_rows_of_arrow(tmp_path: Path) -> None:
    table = pa.table(
        {
            "text": ["a", None, "a"],
            "list": [["x"], None, []],
            "struct": [[{"t": "u", "n": 1}], [], None],
            "map": pa.array([[("k", "v")], None, []], pa.map_(pa.string(), pa.string())),
            "large": pa.array(["x", None, "y"], pa.large_string()),
            "bytes": [b"x", None, b""],
            "flag": [True, None, False],
        }
    )
    pq.write_table(table, tmp_path / "x.parquet")
    assert read_parquet(tmp_path / "x.parquet").equals(table)
    assert read_parquet(tmp_path / "x.parquet", ["list", "text"]).column_names == ["list", "text"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[2Jb", "ab"),
        ("\x1b]0;title\x07x", "x"),
        ("\x1b]8;;http://evil\x1b\\link", "link"),
        ("a\x9b31mb", "a31mb"),
        ("a\u202eb", "ab"),
        ("line\r\nnext\ttab", "line\nnext\ttab"),
        ("naïve 日本語 🙂", "naïve 日本語 🙂"),
    ],
)
def test_control_characters_are_stripped(text: str, shown: str) -> None:
    assert strip_controls(text) == shown
    assert printable(text) == " ".join(shown.split())
