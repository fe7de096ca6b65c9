"""Check retrieval files as `relabel` reads them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import InputError
from tasks.files.records import BadRows
from tasks.files.retrieval import Source, detect_format, read_candidate_sets


@dataclass
class _EveryBadRow(BadRows):
    """Keeps the message of every invalid row."""

    skip: bool = True

    def __post_init__(self) -> None:
        self.found: list[tuple[str, str]] = []

    def report(self, message: str, place: str) -> None:
        self.found.append((place, message))


def find_bad_rows(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (place, message) for every row that `relabel` cannot read. None if it is no retrieval file."""
    try:
        name = detect_format(path)
    except InputError:
        return
    if name not in ("flagembedding", "tevatron", "rlhn", "rankllm", "n-tuple", "triplet", "labeled-list"):
        return
    bad = _EveryBadRow()
    for _ in read_candidate_sets(Source(path, name), bad):
        pass
    yield from bad.found
