"""Reviews in a build: decisions of people, the number that a recipe requires, and waiting for them.

A build that lacks reviews stops, suspends its flow run, or waits. It resumes from the beginning, with the
finished steps skipped, as after any interruption.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from flows.server import LOOPBACK, server_password
from flows.workspace import Workspace, quiet_prefect
from schemas.answers import JUDGEMENTS, PLAIN
from schemas.errors import ReviewError
from schemas.labels import CANDIDATES, DROPPED, LABEL_HISTORY, Waiting
from schemas.question import QUESTIONS, SELECTED
from schemas.recipe import Recipe
from schemas.release import CorrectedTreatment, PeopleReview
from tasks.review import accepted_questions, dropped_question_id, reviews_needed
from tasks.review.answer_sample import correct_treatment, sample_answers
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
"""Seconds between two checks."""


@dataclass(frozen=True)
class Reviews:
    """Verdicts of people on one benchmark, and the decisions that follow from them."""

    words: CurrentVerdicts
    settlements: tuple[Settlement, ...]

    @classmethod
    def read(cls, home: Path, benchmark: str) -> Reviews:
        """Read the reviews of a benchmark. Raise `InputError` with file and line if a line is not valid."""
        words = current_verdicts(read_events(reviews_folder(home, benchmark)))
        return cls(words, settle_verdicts(words))

    def on(self, subject: str) -> list[Settlement]:
        """Return the decisions on a kind of subject: `question` or `passage`."""
        return [s for s in self.settlements if s.subject == subject and s.settled]

    def settled_among(self, questions: Iterable[str]) -> int:
        """Return how many of the questions have a decision."""
        return len({s.subject_id for s in self.on("question")} & set(questions))

    def summary(
        self, reviewed: Sequence[Step], files: Sequence[Step], treatment: Sequence[CorrectedTreatment] = ()
    ) -> PeopleReview | None:
        """Return the summary for a release, or None without reviews.

        Args:
            reviewed: Steps that applied reviews to questions.
            files: Steps that relabelled retrieval files.
            treatment: How values are treated, corrected with the reviews of answers.
        """
        if not self.words:
            return None
        questions = {q.id for step in reviewed for q in read_table(step.table("questions"), QUESTIONS)}
        dropped = [row for step in reviewed for row in read_table(step.table("dropped"), DROPPED)]
        questions |= {name for row in dropped if (name := dropped_question_id(row)) is not None}
        return summarise_reviews(self.words, questions, _passages(files), treatment)

    def correct_treatment(
        self, recipe: Recipe, questions: TableRef, judgements: TableRef
    ) -> list[CorrectedTreatment]:
        """Correct how judges see the treatment of values.

        Without `review.answers`, or if nobody has reviewed anything yet, there is nothing to correct.

        Args:
            recipe: The recipe.
            questions: Questions of the release.
            judgements: Judgements of the release.
        """
        if not recipe.review.answers or not self.words:
            return []
        selected = {
            q.id: q
            for q in read_table(questions, QUESTIONS)
            if q.family == "open" and q.label in SELECTED and q.control == "none"
        }
        verdicts = [j for j in read_table(judgements, JUDGEMENTS) if j.condition == PLAIN]
        population = sample_answers(recipe.name, selected, verdicts, recipe.review)
        return correct_treatment(population, selected, verdicts, self.words)


def _passages(files: Sequence[Step]) -> set[tuple[str, str]]:
    rows = [row for step in files for row in read_table(step.table("candidates"), CANDIDATES)]
    changed = [c for step in files for c in read_table(step.table("label_history"), LABEL_HISTORY)]
    here = {(row.query_id, p.id) for row in rows for p in (*row.positives, *row.negatives)}
    return here | {(c.query_id, c.subject_id) for c in changed}


def require_review(context: RunContext, reviews: Reviews, questions: TableRef) -> None:
    """Raise `ReviewError` if the recipe requires more reviews of the accepted questions."""
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
        f"{done} of {waiting.needed} reviewed: {waiting.needed} of the {len(accepted)} accepted questions "
        "must be reviewed before a release",
        place=str(run_dir),
        hint=f"`counterfoil review {run_dir}`; then run the same command again to resume",
    )


def wait_for_people(workspace: Workspace, context: RunContext, missing: ReviewError, *, poll: bool) -> None:
    """Wait for reviews.

    Args:
        workspace: The workspace.
        context: Context of the run.
        missing: Error to raise if the build cannot wait.
        poll: Return when enough is reviewed. Otherwise the flow run is suspended if it belongs to a
            deployment, which can start it again.

    Raises:
        ReviewError: If the build neither polls nor belongs to a deployment.
    """
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
    """Suspend the flow run. Prefect ends it here with an exception and starts it again on resume."""
    from prefect.context import FlowRunContext
    from prefect.flow_runs import suspend_flow_run
    from prefect.settings import PREFECT_API_URL

    run = getattr(FlowRunContext.get(), "flow_run", None)
    if run is None or run.deployment_id is None:
        return
    address = PREFECT_API_URL.value()
    api = address if address and not urlsplit(address).password else None
    _write(run_dir, waiting.model_copy(update={"flow_run": str(run.id), "api": api}))
    suspend_flow_run(key=f"review-{run.run_count}")


def resume_if_enough(workspace: Workspace, benchmark: str) -> bool:
    """Resume the flow run that waits for reviews of a benchmark, if enough are reviewed.

    Returns:
        Whether it was resumed. If the Prefect server is not reachable, a later call tries again.
    """
    waiting = read_waiting(workspace.runs / benchmark)
    if waiting is None or waiting.flow_run is None or _settled(workspace, waiting) < waiting.needed:
        return False
    quiet_prefect(workspace)
    from httpx import HTTPError
    from prefect.exceptions import NotPausedError, ObjectNotFound
    from prefect.flow_runs import resume_flow_run
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

    settings: dict[Any, Any] = {}
    if not PREFECT_API_URL.value():
        if waiting.api is None:
            return False
        settings[PREFECT_API_URL] = waiting.api
        if urlsplit(waiting.api).hostname == LOOPBACK:  # `counterfoil serve` on this computer
            settings[PREFECT_API_AUTH_STRING] = server_password(workspace)
    try:
        with temporary_settings(settings):
            resume_flow_run(UUID(waiting.flow_run))
    except (HTTPError, NotPausedError, ObjectNotFound, RuntimeError):
        return False
    return True


@contextmanager
def resuming(workspace: Workspace, benchmark: str) -> Iterator[None]:
    """Check for a waiting flow run while the block runs, and once at its end, and resume it when possible."""
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
    """Return the reason that the build of a run directory waits, or None if it does not wait."""
    place = _place(run_dir)
    return Waiting.model_validate_json(place.read_bytes()) if place.exists() else None


def _settled(workspace: Workspace, waiting: Waiting) -> int:
    return Reviews.read(workspace.home, waiting.benchmark).settled_among(waiting.questions)


def _place(run_dir: Path) -> Path:
    return run_dir / "waiting.json"


def _write(run_dir: Path, waiting: Waiting) -> None:
    write_bytes(_place(run_dir), waiting.model_dump_json(indent=1).encode() + b"\n")
