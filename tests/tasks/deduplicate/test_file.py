"""The same rows are kept for the same reasons, for every division into parts and every runner."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.deduplicate import file as deduplicating
from tasks.deduplicate.file import deduplicate_file
from tasks.near_duplicates import search as near_duplicates
from tests.material.similar_texts import similar_texts


def backwards(job: Callable[[Any], Any], parts: Sequence[Any], /) -> list[Any]:
    return [job(part) for part in parts[::-1]][::-1]


def in_threads(job: Callable[[Any], Any], parts: Sequence[Any], /) -> list[Any]:
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(job, parts))


def written(path: Path, out: Path, **options: Any) -> tuple[dict[str, object], list[bytes]]:
    result = deduplicate_file(path, text="text", out=out, **options)
    result.pop("seconds")
    assert sorted(p.name for p in out.iterdir()) == ["dropped.parquet", "kept.parquet"]
    return result, [(out / name).read_bytes() for name in ("kept.parquet", "dropped.parquet")]


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, most in {
        "TEXTS_PER_PART": 300,
        "WINDOW_PAIRS_PER_PART": 20_000,
        "BANDS_PER_PART": 5,
        "PAIRS_PER_PART": 70,
    }.items():
        monkeypatch.setattr(near_duplicates, name, most)


@pytest.mark.parametrize("exhaustive", [near_duplicates.EXHAUSTIVE_PAIRS, 0])
@pytest.mark.usefixtures("small_parts")
def test_parts_and_workers_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exhaustive: int
) -> None:
    texts = similar_texts(2_000, seed=5, words=20, edited=0.4)[0]
    rows = {
        "id": [f"r{i}" for i in range(len(texts))],
        "text": texts,
        "score": [i % 7 for i in range(len(texts))],
    }
    path, earlier = tmp_path / "in.parquet", tmp_path / "old.parquet"
    pq.write_table(pa.table(rows).slice(200), path, row_group_size=333)
    pq.write_table(pa.table(rows).slice(0, 200), earlier)
    monkeypatch.setattr(near_duplicates, "EXHAUSTIVE_PAIRS", exhaustive)
    options = {"rank": "score", "against": [earlier]}
    whole = written(path, tmp_path / "whole", rows_per_part=10_000, **options)
    assert whole[0]["dropped"] > 300
    for run_parts in (backwards, in_threads):
        assert written(path, tmp_path / "parts", rows_per_part=150, run_parts=run_parts, **options) == whole


def test_groups_stay_whole_however_rows_are_cut(tmp_path: Path) -> None:
    texts = similar_texts(300, seed=6, words=20, edited=0.3)[0]
    rows = [{"text": f"{t} {who}", "g": i, "who": who} for who in ("he", "she") for i, t in enumerate(texts)]
    path = tmp_path / "in.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    options = {"group": "g", "slots": ["who"]}
    whole = written(path, tmp_path / "whole", **options)
    assert whole[0]["dropped"] > 60
    assert written(path, tmp_path / "parts", rows_per_part=37, **options) == whole
    for name in ("kept", "dropped"):
        groups = pq.read_table(tmp_path / "parts" / f"{name}.parquet")["g"].to_pylist()
        assert all(groups.count(g) == 2 for g in set(groups))


def test_the_pairs_around_the_threshold_are_reported(tmp_path: Path) -> None:
    line = "My neighbour asks whether she may borrow the ladder on Saturday morning"
    texts = [
        line,
        line + "!",
        line.replace("Saturday morning", "morning Saturday"),
        "Something about trains.",
    ]
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"id": ["a", "b", "c", "d"], "text": texts}), path)
    result, _ = written(path, tmp_path / "out")
    (merged,), (missed,) = result["least_similar"], result["near_misses"]
    assert (merged["id"], merged["other"]) == ("b", "a")
    assert 98 < merged["similarity"] < 100
    assert {missed["id"], missed["other"]} == {"a", "c"}
    assert 90 - near_duplicates.MARGIN <= missed["similarity"] < 90
    assert missed["other_text"] == line.casefold()
    assert result["duplicate_ratio"] == 0.25


def test_a_failure_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, out = tmp_path / "in.parquet", tmp_path / "out"
    pq.write_table(pa.table({"text": ["a b c", "d e f"]}), path)

    def fail(*_: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(deduplicating, "_example_pairs", fail)
    monkeypatch.setattr(deduplicating, "row_verdicts", fail)
    with pytest.raises(OSError, match="disk is full"):
        deduplicate_file(path, text="text", out=out)
    assert not list(out.iterdir())
