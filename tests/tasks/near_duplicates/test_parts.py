"""Parts cover the work once, and texts on disk equal the written ones."""

import subprocess
import sys
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.near_duplicates.parts import (
    TextFiles,
    create_array,
    read_array,
    split_by_cost,
    split_range,
    work_folder,
    write_array_rows,
)


def covers(stretches: list[tuple[int, int]], count: int) -> bool:
    return [i for a, b in stretches for i in range(a, b)] == list(range(count)) and all(
        a < b for a, b in stretches
    )


@given(st.integers(0, 50), st.integers(1, 20))
def test_spans_cover_everything_once(count, most):
    assert covers(split_range(count, most), count)


@given(st.lists(st.integers(1, 30), max_size=40), st.integers(1, 60))
def test_even_spans_cover_everything_once_and_have_about_the_wanted_size(sizes, most):
    stretches = split_by_cost(np.cumsum(np.array(sizes, np.int64)), most)
    assert covers(stretches, len(sizes))
    assert all(sum(sizes[a:b]) < most + 2 * max(sizes) for a, b in stretches)


@settings(deadline=None)
@given(st.lists(st.one_of(st.text(max_size=8), st.sampled_from(["", "\ud800", "日本語"])), max_size=8))
def test_texts_are_read_unchanged(tmp_path_factory, texts):
    files = TextFiles(tmp_path_factory.mktemp("texts"))
    files.write(texts)
    assert len(files) == len(texts)
    assert files.read(slice(None)) == texts
    assert files.read(np.arange(len(texts))[::-1]) == texts[::-1]
    assert [t for _, some in files.chunks(0, len(texts), 3) for t in some] == texts


def test_rows_are_written_to_their_files(tmp_path: Path):
    create_array(tmp_path / "a.npy", (6, 2), np.uint32)
    for start in (4, 0, 2):
        write_array_rows(tmp_path / "a.npy", start, np.full((2, 2), start, np.uint32))
    assert read_array(tmp_path / "a.npy")[:, 1].tolist() == [0, 0, 2, 2, 4, 4]


def test_arrays_of_a_killed_job_are_deleted_by_the_next(tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from tasks.near_duplicates.parts import work_folder\n"
        "with work_folder('parts', Path(sys.argv[1])) as folder:\n"
        "    (folder / 'a.npy').write_bytes(b'x' * 9)\n"
        "    os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    (left,) = tmp_path.iterdir()
    with work_folder("other", tmp_path):
        assert left.exists()
    with work_folder("parts", tmp_path) as folder, work_folder("parts", tmp_path):
        assert not left.exists()
        assert folder.exists()
    assert not list(tmp_path.iterdir())
