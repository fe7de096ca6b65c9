"""Parts of a relabelling on disk: the rows that are handed out to workers, and the finished parts.

.<out>.parts/job.json           key of the job; another job starts afresh
.<out>.parts/00000.rows.jsonl   rows of a part that a worker has not finished
.<out>.parts/00000/             sets.jsonl, changes.jsonl, review.jsonl, summary.json
.<out>.parts/survey/            hashes of the input, see `survey`
.<out>.parts/vectors.*          vectors of a corpus, see `mining.StoredVectors`
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from schemas.errors import InputError
from schemas.labels import CandidateSet, LabelChange
from schemas.tables import file_hash
from tasks.relabel.decisions import RelabelledRow
from tasks.run.store import write_bytes


@dataclass(frozen=True)
class Summary:
    """The figures of one part."""

    counts: dict[str, int]
    judged_by: Sequence[str] = ()
    truth: dict[str, list[int]] = field(default_factory=dict)
    """See `QueryCounts.by_query`."""
    audit: Sequence[dict[str, Any]] = ()
    """Fields of `AuditLine`."""
    observed: dict[str, Any] = field(default_factory=dict)
    """See `RunStatistics.to_dict`."""
    written: dict[str, int] = field(default_factory=dict)
    """See `PartWriting`."""
    written_ranks: Sequence[int] = ()
    paces: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Calls that a worker sent, and the seconds that they took, by judge."""

    @property
    def costs(self) -> dict[str, list[float]]:
        """Calls, tokens in, tokens out and dollars by judge."""
        costs: dict[str, list[float]] = self.observed.get("costs", {})
        return costs

    @property
    def calls(self) -> dict[str, int]:
        """Calls by judge."""
        return {judge: int(spent[0]) for judge, spent in self.costs.items()}


class Parts:
    """The finished parts of one job, in order."""

    def __init__(self, folder: Path, job: str) -> None:
        """Open the folder. Parts of a job with another key are deleted.

        Raises:
            InputError: If something else has the name of the folder.
        """
        self.folder = folder.absolute()
        marker = folder / "job.json"
        if _is_foreign(folder, marker):
            raise InputError(
                f"{folder.name} is not a folder of this program",
                place=str(folder),
                hint="the parts of an unfinished run are kept there; move or delete it",
            )
        if not marker.is_file() or marker.read_bytes() != job.encode():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            write_bytes(marker, job.encode())

    def find(self, number: int) -> Summary | None:
        """Return the summary of a part, or `None` if it is not finished.

        A part whose files are not those that were written is deleted, and done again.
        """
        part = self._part(number)
        if not os.path.lexists(part):
            return None
        try:
            content = orjson.loads((part / "summary.json").read_bytes())
            if not part.is_symlink() and content["sha256"] == _hashes(part):
                return Summary(**content["summary"])
        except (OSError, ValueError, TypeError, LookupError):
            pass  # damaged
        part.unlink() if part.is_symlink() or not part.is_dir() else shutil.rmtree(part)
        return None

    def finished(self) -> list[Summary]:
        """Return the summaries of the first parts, up to one that is not finished."""
        found: list[Summary] = []
        while (summary := self.find(len(found))) is not None:
            found.append(summary)
        return found

    def write(self, number: int, rows: Sequence[RelabelledRow], summary: Summary) -> None:
        """Write a part atomically."""
        temporary = Path(tempfile.mkdtemp(prefix=".part-", dir=self.folder))
        sets = (row.after.model_dump_json() for row in rows if row.after is not None)
        _write_lines(temporary / "sets.jsonl", sets)
        _write_lines(temporary / "changes.jsonl", (c.model_dump_json() for row in rows for c in row.changes))
        _write_lines(temporary / "review.jsonl", (_review_record(row) for row in rows if row.flags))
        content = {"summary": asdict(summary), "sha256": _hashes(temporary)}
        write_bytes(temporary / "summary.json", orjson.dumps(content))
        try:
            os.rename(temporary, self._part(number))
        except OSError:  # a worker that was thought to be lost has written the same part
            if self.find(number) is None:
                raise
            shutil.rmtree(temporary)
        self._rows(number).unlink(missing_ok=True)

    def hand_out(self, number: int, rows: Iterable[CandidateSet]) -> None:
        """Write the rows of a part for the worker that relabels it."""
        _write_lines(self._rows(number), (row.model_dump_json() for row in rows))

    def take(self, number: int) -> list[CandidateSet]:
        """Return the rows of a part."""
        with self._rows(number).open(encoding="utf-8") as stream:
            return [CandidateSet.model_validate_json(line) for line in stream]

    def sets(self) -> Iterator[CandidateSet]:
        """Yield the rows that were not dropped."""
        return (CandidateSet.model_validate_json(line) for line in self._lines("sets.jsonl"))

    def changes(self) -> Iterator[LabelChange]:
        """Yield the label changes."""
        return (LabelChange.model_validate_json(line) for line in self._lines("changes.jsonl"))

    def review(self) -> Iterator[dict[str, object]]:
        """Yield the flagged rows."""
        return (orjson.loads(line) for line in self._lines("review.jsonl"))

    def remove(self) -> None:
        """Delete all parts."""
        shutil.rmtree(self.folder)

    def _part(self, number: int) -> Path:
        return self.folder / f"{number:05}"

    def _rows(self, number: int) -> Path:
        return self.folder / f"{number:05}.rows.jsonl"

    def _lines(self, name: str) -> Iterator[str]:
        for part in sorted(p for p in self.folder.iterdir() if p.name.isdigit()):
            with (part / name).open(encoding="utf-8") as stream:
                yield from stream


FILES = ("sets.jsonl", "changes.jsonl", "review.jsonl")
"""Files of a part besides its summary."""


def _hashes(part: Path) -> dict[str, str]:
    """Return the hashes of the files of a part. Raise `OSError` if one is missing or a link."""
    if any((part / name).is_symlink() for name in FILES):
        raise FileNotFoundError(part)
    return {name: file_hash(part / name) for name in FILES}


def _is_foreign(folder: Path, marker: Path) -> bool:
    """Return whether the folder is a link, a file, or a folder with other things."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        return True
    return folder.is_dir() and not marker.exists() and any(folder.iterdir())


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    with path.open("w", encoding="utf-8") as stream:
        for line in lines:
            stream.write(line + "\n")
        stream.flush()
        os.fsync(stream.fileno())


def _review_record(row: RelabelledRow) -> str:
    record = {
        "id": row.before.id,
        "query_id": row.before.query_id,
        "query": row.before.query,
        "flags": row.flags,
        "dropped": row.after is None,
    }
    return orjson.dumps(record).decode()
