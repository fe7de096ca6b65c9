"""Read a whole file once before anything is judged: its positives, its ids, and the files beside it.

Everything is kept as 8-byte hashes in files, so that memory stays bounded. Two texts share a hash with
probability 2^−64.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.errors import InputError
from schemas.labels import CandidateSet
from schemas.tables import content_id
from tasks.files.records import BadRows
from tasks.files.retrieval import Source, read_candidate_sets
from tasks.files.retrieval_rows import has_given_id, passage_id
from tasks.models import ModelSettings
from tasks.relabel.graded import read_grades
from tasks.relabel.job import RelabelJob
from tasks.relabel.quality import Qrels
from tasks.relabel.same_text import match_key, query_key
from tasks.relabel.stored_parts import Parts
from tasks.run.parts import PartRunner
from tasks.run.store import write_bytes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Hashes = NDArray[np.uint64]

BUFFER = 1 << 17
"""Hashes that are held before they are written."""


class HashFile:
    """A multiset of texts, as sorted hashes in a file. A copy in another process reads the same file."""

    def __init__(self, path: Path, *, is_complete: bool = False) -> None:
        """Start a file, or open one that is complete."""
        self._path = path
        self._buffer = array("Q")
        self._sorted: Hashes | None = None
        if is_complete:
            self.__setstate__(path)

    def add(self, text: str) -> None:
        """Add a text."""
        self._buffer.append(hash_text(text))
        if len(self._buffer) >= BUFFER:
            self._flush()

    def _flush(self) -> None:
        with self._path.open("ab") as stream:
            self._buffer.tofile(stream)
        self._buffer = array("Q")

    def hashes(self) -> Hashes:
        """Return all hashes, sorted. Nothing can be added afterwards."""
        import numpy as np

        if self._sorted is None:
            self._flush()
            if self._path.stat().st_size:
                self._sorted = np.memmap(self._path, dtype=np.uint64, mode="r+")
                self._sorted.sort()
            else:
                self._sorted = np.empty(0, np.uint64)
        return self._sorted

    def __contains__(self, text: object) -> bool:
        """Return whether a text was added."""
        import numpy as np

        hashes, wanted = self.hashes(), np.uint64(hash_text(str(text)))
        position = int(np.searchsorted(hashes, wanted))
        return position < len(hashes) and bool(hashes[position] == wanted)

    def __getstate__(self) -> Path:
        self.hashes()
        return self._path.absolute()

    def __setstate__(self, path: Path) -> None:
        import numpy as np

        self._path = path
        self._buffer = array("Q")
        is_empty = not path.stat().st_size
        self._sorted = np.empty(0, np.uint64) if is_empty else np.memmap(path, np.uint64, mode="r")

    def distinct(self) -> int:
        """Return the number of different texts."""
        hashes = self.hashes()
        return int((hashes[1:] != hashes[:-1]).sum()) + 1 if len(hashes) else 0

    def repeated(self) -> set[int]:
        """Return the hashes of the texts that were added more than once."""
        hashes = self.hashes()
        return {int(value) for value in hashes[1:][hashes[1:] == hashes[:-1]]}


def hash_text(text: str) -> int:
    """Return an 8-byte hash."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big")


class Survey:
    """The positives of a file, and figures on its rows and ids.

    It contains `match_key(text)` of every positive, and `query_key` of every positive of a query.
    """

    def __init__(
        self, sets: Iterable[CandidateSet], folder: Path | None = None, *, keep: Path | None = None
    ) -> None:
        """Read all sets, unless an earlier run has kept its survey.

        Args:
            sets: The sets of the file.
            folder: Where hashes are kept. Default: a temporary folder, deleted with this object.
            keep: A folder for a survey that later runs read. It replaces `folder`.
        """
        self._note = keep and keep / "survey.json"
        self.is_new = not (self._note and self._note.is_file())
        """Whether this object has read the file."""
        self.notes: dict[str, Any] = {}
        """The notes that `keep` was given."""
        if keep is not None:
            if self.is_new:
                shutil.rmtree(keep, ignore_errors=True)  # of a run that was stopped while it read
                keep.mkdir(parents=True)
            place = keep
        else:
            self._temporary = tempfile.TemporaryDirectory(prefix="counterfoil-survey-", dir=folder)
            place = Path(self._temporary.name)
        self.positives = HashFile(place / "positives", is_complete=not self.is_new)
        """`match_key` of every positive, and `query_key` of every positive of a query."""
        self._rows = HashFile(place / "rows", is_complete=not self.is_new)
        if self._note and not self.is_new:
            stored = json.loads(self._note.read_bytes())
            self.rows, self.id_clashes, self.notes = stored["rows"], stored["id_clashes"], stored["notes"]
        else:
            self._ids, self._texts_by_id = HashFile(place / "ids"), HashFile(place / "texts")
            self.rows = 0
            for row in sets:
                self.rows += 1
                self._add(row)
            self.id_clashes = self._texts_by_id.distinct() - self._ids.distinct()
            """Given ids that several texts have, counted once per further text."""
        self._repeated_rows = self._rows.repeated()

    def keep(self, notes: dict[str, Any]) -> None:
        """Keep the survey for later runs, if it has a folder for them."""
        self.positives.hashes()
        if self._note is not None:
            stored = {"rows": self.rows, "id_clashes": self.id_clashes, "notes": notes}
            write_bytes(self._note, json.dumps(stored).encode())

    @property
    def has_repeated_rows(self) -> bool:
        """Whether some rows occur several times."""
        return bool(self._repeated_rows)

    def _add(self, row: CandidateSet) -> None:
        self._rows.add(row.id)
        for passage in row.positives:
            key = match_key(passage.text)
            self.positives.add(key)
            self.positives.add(query_key(row.query, key))
        for passage in (*row.positives, *row.negatives):
            if has_given_id(passage):
                self._ids.add(passage.id)
                self._texts_by_id.add(f"{passage.id}\x1f{passage_id(passage.text, passage.title)}")

    def __contains__(self, key: object) -> bool:
        """Return whether a text is a positive of any row, or a positive of one query."""
        return key in self.positives

    def with_own_ids(self, sets: Iterable[CandidateSet]) -> Iterator[CandidateSet]:
        """Yield the sets. Rows that occur several times get ids of their own, so that changes differ."""
        seen: Counter[int] = Counter()
        for row in sets:
            key = hash_text(row.id)
            if key in self._repeated_rows:
                seen[key] += 1
                if seen[key] > 1:
                    row = row.model_copy(update={"id": content_id("set", row.id, seen[key])})
            yield row


@dataclass
class KnownTexts:
    """Whether grades and answers beside the input belong to its rows."""

    pairs: dict[str, Collection[tuple[str, str]]]
    """Pairs (query id, passage id) by option."""
    rows: Collection[str] = ()
    """Ids of rows on an audit sheet."""
    found: set[str] = field(default_factory=set)
    example: tuple[str, str] | None = None
    """A pair of the input."""

    def observe(self, sets: Iterable[CandidateSet]) -> Iterator[CandidateSet]:
        """Yield the sets and remember which files match."""
        for row in sets:
            if row.id in self.rows:
                self.found.add("--audited")
            for option, pairs in self.pairs.items():
                for passage in () if option in self.found else (*row.positives, *row.negatives):
                    self.example = self.example or (row.query_id, passage.id)
                    if (row.query_id, passage.id) in pairs:
                        self.found.add(option)
                        break
            yield row

    def check(self) -> None:
        """Raise `InputError` for all files that match nothing."""
        options = [*self.pairs, *(["--audited"] if self.rows else [])]
        missing = [option for option in options if option not in self.found]
        if not missing:
            return
        of_file = (
            f" (a pair of the input is {self.example[0]!r}, {self.example[1]!r})" if self.example else ""
        )
        raise InputError(
            f"nothing in {' and '.join(missing)} matches a row of the input",
            hint=f"query ids and passage ids must be the same as in the input{of_file}",
        )


def matches_of(
    source: Source, job: RelabelJob, qrels: Qrels | None, answers: Mapping[tuple[str, str], int]
) -> KnownTexts:
    """Return what is compared with the rows of the input."""
    pairs: dict[str, Collection[tuple[str, str]]] = {}
    if qrels is not None:
        pairs["--truth"] = qrels.keys()
    if job.verdicts:
        pairs["--verdicts"] = read_grades(job.verdicts, job.judges, job.scales).by_pair.keys()
    if source.relevant is not None:
        pairs["--positives"] = source.relevant.keys()
    return KnownTexts(pairs, {row for row, _ in answers})


def survey_input(
    source: Source,
    matches: KnownTexts,
    bad: BadRows,
    settings: ModelSettings,
    parts: Parts | None,
    run_parts: PartRunner | None,
) -> tuple[Survey, BadRows]:
    """Read the input once, or the survey that a stopped run has kept, and check the files beside the input.

    Returns:
        The survey, and the repeated ids that were found.
    """
    first_pass = BadRows(bad.skip)
    if run_parts is not None:  # workers read the survey
        settings.run_dir.mkdir(parents=True, exist_ok=True)
    survey = Survey(
        matches.observe(read_candidate_sets(source, first_pass)),
        settings.run_dir if run_parts else None,
        keep=parts.folder / "survey" if parts else None,
    )
    if survey.is_new:
        matches.check()
        survey.keep({"repeated": first_pass.repeated, "repeated_ids": first_pass.repeated_ids})
    else:
        first_pass = replace(first_pass, **survey.notes)
    return survey, first_pass
