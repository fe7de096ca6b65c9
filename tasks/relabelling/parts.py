"""Work on a long file in parts that are finished whole or not at all, so that a stopped run goes on.

.<out>.parts/job.json              what the parts belong to: another job starts afresh
.<out>.parts/00000/                sets.jsonl, changes.jsonl, review.jsonl, summary.json
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import orjson

from schemas.candidates import CandidateSet
from schemas.label import LabelChange
from tasks.relabelling.changes import RelabelledRow
from tasks.store import write_bytes

T = TypeVar("T")
ROWS_A_PART = 500


@dataclass(frozen=True)
class Summary:
    """What a part adds to the totals."""

    counts: dict[str, int]
    judged_by: Sequence[str] = ()
    truth: dict[str, list[int]] = field(default_factory=dict)
    """Counts by query id, see `truth.Tally`."""
    audit: Sequence[dict[str, Any]] = ()
    """Candidates for the sheet that people fill in, see `audit.AuditLine`."""
    observed: dict[str, Any] = field(default_factory=dict)
    """See `report.Observed`."""

    def to_json(self) -> bytes:
        return orjson.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: bytes) -> Summary:
        return cls(**orjson.loads(text))


class Parts:
    """The finished parts of one job, in order."""

    def __init__(self, home: Path, job: str) -> None:
        self.home = home
        marker = home / "job.json"
        if not marker.is_file() or marker.read_text() != job:
            shutil.rmtree(home, ignore_errors=True)
            home.mkdir(parents=True)
            write_bytes(marker, job.encode())

    def find(self, number: int) -> Summary | None:
        """The summary of a part, if it is finished."""
        path = self._place(number) / "summary.json"
        return Summary.from_json(path.read_bytes()) if path.is_file() else None

    def write(self, number: int, rows: Sequence[RelabelledRow], summary: Summary) -> None:
        """Write a part under a temporary name, then give it its own."""
        room = Path(tempfile.mkdtemp(prefix=".part-", dir=self.home))
        _write_lines(room / "sets.jsonl", (r.after.model_dump_json() for r in rows if r.after is not None))
        _write_lines(room / "changes.jsonl", (c.model_dump_json() for r in rows for c in r.changes))
        _write_lines(room / "review.jsonl", (_review(r) for r in rows if r.flags))
        write_bytes(room / "summary.json", summary.to_json())
        os.rename(room, self._place(number))

    def sets(self) -> Iterator[CandidateSet]:
        """Every row that is left, in order."""
        return (CandidateSet.model_validate_json(line) for line in self._lines("sets.jsonl"))

    def changes(self) -> Iterator[LabelChange]:
        """Every label change, in order."""
        return (LabelChange.model_validate_json(line) for line in self._lines("changes.jsonl"))

    def review(self) -> Iterator[dict[str, object]]:
        """The flagged rows, in order."""
        return (orjson.loads(line) for line in self._lines("review.jsonl"))

    def remove(self) -> None:
        """Forget all parts: the result is written."""
        shutil.rmtree(self.home)

    def _place(self, number: int) -> Path:
        return self.home / f"{number:05}"

    def _lines(self, name: str) -> Iterator[str]:
        for part in sorted(p for p in self.home.iterdir() if p.name.isdigit()):
            with (part / name).open(encoding="utf-8") as stream:
                yield from stream


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    with path.open("w", encoding="utf-8") as stream:
        for line in lines:
            stream.write(line + "\n")
        stream.flush()
        os.fsync(stream.fileno())


def _review(row: RelabelledRow) -> str:
    record = {
        "id": row.before.id,
        "query_id": row.before.query_id,
        "query": row.before.query,
        "flags": row.flags,
        "dropped": row.after is None,
    }
    return orjson.dumps(record).decode()


def chunked(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items, the last one shorter."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
