"""People in a build: what they decided, how much of it a recipe demands, and waiting until it is there.

A build that lacks reviews stops, suspends its flow run, or waits. Each time it goes on by starting from the
beginning with every stage found done, which is how a build resumes anyway.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from urllib.parse import urlsplit
from uuid import UUID

from flows.workspace import Workspace, quiet_prefect
from schemas.errors import ReviewError
from schemas.labels import CANDIDATES, DROPPED, LABEL_HISTORY, Waiting
from schemas.question import QUESTIONS
from schemas.release import PeopleReview
from tasks.review import accepted_questions, dropped_question_id, reviews_needed
from tasks.review.events import (
    CurrentVerdicts,
    Settlement,
    current_verdicts,
    read_events,
    reviews_folder,
    settle_verdicts,
    summarise_reviews,
)
from tasks.run.progress import track
from tasks.run.store import RunContext, Step, TableRef, read_table, write_bytes

POLL_S = 2.0


@dataclass(frozen=True)
class Reviews:
    """What people said of one benchmark, and what it comes to."""

    words: CurrentVerdicts
    settlements: tuple[Settlement, ...]

    @classmethod
    def read(cls, home: Path, benchmark: str) -> Reviews:
        """Raises `InputError` with file and line where a line is no event."""
        words = current_verdicts(read_events(reviews_folder(home, benchmark)))
        return cls(words, settle_verdicts(words))

    def on(self, subject: str) -> list[Settlement]:
        """What is settled of questions, or of passages."""
        return [s for s in self.settlements if s.subject == subject and s.settled]

    def settled_among(self, questions: Iterable[str]) -> int:
        """How many of those questions have a settled verdict."""
        return len({s.subject_id for s in self.on("question")} & set(questions))

    def summary(self, reviewed: Sequence[Step], files: Sequence[Step]) -> PeopleReview | None:
        """What a release tells of them. `reviewed`: the steps that took people's decisions on questions;
        `files`: those that relabelled retrieval files."""
        if not self.words:
            return None
        questions = {q.id for step in reviewed for q in read_table(step.table("questions"), QUESTIONS)}
        dropped = [row for step in reviewed for row in read_table(step.table("dropped"), DROPPED)]
        questions |= {name for row in dropped if (name := dropped_question_id(row)) is not None}
        return summarise_reviews(self.words, questions, _passages(files))


def _passages(files: Sequence[Step]) -> set[tuple[str, str]]:
    rows = [row for step in files for row in read_table(step.table("candidates"), CANDIDATES)]
    changed = [c for step in files for c in read_table(step.table("label_history"), LABEL_HISTORY)]
    here = {(row.query_id, p.id) for row in rows for p in (*row.positives, *row.negatives)}
    return here | {(c.query_id, c.subject_id) for c in changed}


def require_review(context: RunContext, reviews: Reviews, questions: TableRef) -> None:
    """Raise `ReviewError` where the recipe demands more reviews of the accepted questions than there are."""
    from flows.engine import show_review

    section, run_dir = context.recipe.review, Path(context.run_dir)
    if not section.required:
        _place(run_dir).unlink(missing_ok=True)
        return
    accepted = accepted_questions(read_table(questions, QUESTIONS))
    waiting = Waiting(
        benchmark=context.recipe.name,
        questions=tuple(accepted),
        needed=reviews_needed(section, len(accepted)),
        flow_run=None,
        api=None,
    )
    done = reviews.settled_among(accepted)
    show_review(done, waiting.needed, len(accepted), command=f"counterfoil review {run_dir}")
    if done >= waiting.needed:
        _place(run_dir).unlink(missing_ok=True)
        return
    _write(run_dir, waiting)
    raise ReviewError(
        f"{done} of {waiting.needed} reviewed: people must settle so many of the {len(accepted)} accepted "
        "questions before a release is made",
        place=str(run_dir),
        hint=f"`counterfoil review {run_dir}`; then run the same command again: it goes on where it stopped",
    )


def wait_for_people(workspace: Workspace, context: RunContext, missing: ReviewError, *, poll: bool) -> None:
    """With `poll`, return when enough is reviewed. Else suspend the flow run, where it belongs to a
    deployment that can start it again; or raise what is missing."""
    run_dir = Path(context.run_dir)
    waiting = read_waiting(run_dir)
    if waiting is None:
        return
    if poll:
        _poll(workspace, waiting)
    else:
        _suspend(run_dir, waiting)
        raise missing


def _poll(workspace: Workspace, waiting: Waiting) -> None:
    with track("groups reviewed", waiting.needed) as bar:
        shown = 0
        while True:
            done = _settled(workspace, waiting)
            bar.advance(done - shown)
            shown = done
            if done >= waiting.needed:
                return
            time.sleep(POLL_S)


def _suspend(run_dir: Path, waiting: Waiting) -> None:
    """Prefect's signal ends the flow run here; it is started again when it is resumed."""
    from prefect.context import FlowRunContext
    from prefect.flow_runs import suspend_flow_run
    from prefect.settings import PREFECT_API_URL

    run = getattr(FlowRunContext.get(), "flow_run", None)
    if run is None or run.deployment_id is None:
        return
    said = PREFECT_API_URL.value()
    api = said if said and not urlsplit(said).password else None
    _write(run_dir, waiting.model_copy(update={"flow_run": str(run.id), "api": api}))
    suspend_flow_run(key=f"review-{run.run_count}")


def resume_if_enough(workspace: Workspace, benchmark: str) -> bool:
    """Resume the flow run that waits for reviews of the benchmark, if there is one and enough are there;
    whether it was resumed now. A Prefect server that cannot be reached is tried again the next time."""
    waiting = read_waiting(workspace.runs / benchmark)
    if waiting is None or waiting.flow_run is None or _settled(workspace, waiting) < waiting.needed:
        return False
    quiet_prefect(workspace)
    from httpx import HTTPError
    from prefect.exceptions import NotPausedError, ObjectNotFound
    from prefect.flow_runs import resume_flow_run
    from prefect.settings import PREFECT_API_URL, temporary_settings

    api = PREFECT_API_URL.value() or waiting.api
    if api is None:
        return False
    try:
        with temporary_settings({PREFECT_API_URL: api}):
            resume_flow_run(UUID(waiting.flow_run))
    except (HTTPError, NotPausedError, ObjectNotFound, RuntimeError):
        return False
    return True


@contextmanager
def resuming(workspace: Workspace, benchmark: str) -> Iterator[None]:
    """While the block runs, and once more when it ends, a flow run that waits for reviews is resumed as soon
    as enough are there."""
    ended = Event()

    def watch() -> None:
        while not ended.wait(POLL_S):
            resume_if_enough(workspace, benchmark)

    thread = Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        resume_if_enough(workspace, benchmark)


def read_waiting(run_dir: Path) -> Waiting | None:
    """What the build of that run directory waits for; `None` where it does not wait."""
    place = _place(run_dir)
    return Waiting.model_validate_json(place.read_bytes()) if place.exists() else None


def _settled(workspace: Workspace, waiting: Waiting) -> int:
    return Reviews.read(workspace.home, waiting.benchmark).settled_among(waiting.questions)


def _place(run_dir: Path) -> Path:
    return run_dir / "waiting.json"


def _write(run_dir: Path, waiting: Waiting) -> None:
    write_bytes(_place(run_dir), waiting.model_dump_json(indent=1).encode() + b"\n")
