"""What was handed to a Batch API and is not collected yet, on disk: `<run>/batches/<id>.json`, one per job.

A job is written down before it is handed over, and again with the provider's id before anything waits for it.
So after a kill the next process finds every job, asks the provider for it by our id where its own is missing,
and hands nothing over twice. A job belongs to who holds its lock, which goes with the process.
"""

from __future__ import annotations

import fcntl
from pathlib import Path
from secrets import token_hex
from typing import TextIO

from pydantic import BaseModel, ConfigDict, ValidationError

from schemas.errors import InputError
from tasks.store import write_bytes


class Job(BaseModel):
    """Requests that were handed over together."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    id: str
    """Ours; the provider keeps it beside its own."""
    model: str
    """With its endpoint."""
    keys: tuple[str, ...]
    """Fingerprints of the requests, which are also their `custom_id`s."""
    reserved_usd: float
    """Set aside in the run's ledger when it was written down."""
    batch_id: str | None = None
    """The provider's, as soon as it has given one."""


class JobFolder:
    """The jobs of one run. Holds the locks of those that are its own."""

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / "batches"
        self._locks: dict[str, TextIO] = {}

    def begin(self, model: str, keys: tuple[str, ...], reserved_usd: float) -> Job:
        """A new job, written down."""
        self.path.mkdir(parents=True, exist_ok=True)
        job = Job(id=token_hex(12), model=model, keys=keys, reserved_usd=reserved_usd)
        self._lock(job.id)
        self.write(job)
        return job

    def write(self, job: Job) -> None:
        write_bytes(self._file(job.id), job.model_dump_json().encode())

    def take_over(self, model: str) -> list[Job]:
        """Jobs of a model that nobody holds, in the order of their ids; they are held from now on."""
        jobs = []
        for file in sorted(self.path.glob("*.json")):
            if self._lock(file.stem):
                job = self._read(file)
                if job and job.model == model:
                    jobs.append(job)
                else:
                    self.release(file.stem)
        return jobs

    def forget(self, id: str) -> None:
        """The job is collected, and its answers are kept elsewhere."""
        self._file(id).unlink(missing_ok=True)
        self._file(id).with_suffix(".lock").unlink(missing_ok=True)
        self.release(id)

    def release(self, id: str) -> None:
        """Whoever comes next may take it over."""
        if lock := self._locks.pop(id, None):
            lock.close()

    def release_all(self) -> None:
        for id in list(self._locks):
            self.release(id)

    def _file(self, id: str) -> Path:
        return self.path / f"{id}.json"

    def _lock(self, id: str) -> bool:
        lock = self._file(id).with_suffix(".lock").open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            return False
        self._locks[id] = lock
        return True

    def _read(self, file: Path) -> Job | None:
        """`None` where another process has just collected it."""
        try:
            return Job.model_validate_json(file.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError:
            raise InputError(
                "the record of a batch cannot be read",
                place=str(file),
                hint="delete it: its requests are then handed over, and paid, again",
            ) from None
