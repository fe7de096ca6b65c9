"""Small releases and runs to review."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from schemas.answers import JUDGEMENTS, RESPONSES, Response
from schemas.labels import CANDIDATES, LABEL_HISTORY, CandidateSet, Dropped, LabelChange, Passage
from schemas.question import QUESTIONS, Question
from schemas.tables import content_id
from tasks.run.journal import JournalEntry, note_step, start_journal
from tasks.run.store import Outcome, RunContext, write_step
from tests.conftest import DATA, recipe_of
from tests.material.review_release import answers_to, many_questions, verdicts_on, write_review_release

FEW = ("food", "work")
"""Superdomains with enough questions that are read quickly."""
EVIDENCE = "The library lends laptops for three weeks"


def small_release(home: Path, groups: int) -> Path:
    """Write a release to the release folder of a workspace."""
    place = home / "releases" / "everyday-advice" / "1.0.0"
    write_review_release(place, groups, superdomains=FEW)
    return place


def small_run(home: Path, questions: Sequence[Question] = (), answers: Sequence[Response] = ()) -> Path:
    """Write a measured run with two relabelled passages and a few questions (or those given)."""
    used = list(questions or many_questions(3, FEW))
    place = home / "runs" / "unfinished"
    context = RunContext(
        recipe=recipe_of(name="unfinished"),
        run_dir=str(place),
        data_dir=str(DATA),
        cache_path=str(home / "cache" / "answers.sqlite"),
        budget_usd=0.0,
    )
    start_journal(context)
    rows = list(answers or [r for q in used for r in answers_to(q, 1)])
    verdicts = [j for q in used for j in verdicts_on(q)]
    candidates, changes, dropped = relabelled_passages()
    outcomes = {
        "respond": Outcome({RESPONSES: rows}, ()),
        "judge": Outcome({JUDGEMENTS: verdicts}, ()),
        "relabel_retrieval": Outcome({CANDIDATES: candidates, LABEL_HISTORY: changes}, (), dropped=dropped),
        "measure": Outcome({QUESTIONS: used}, ()),
    }
    for number, (stage, outcome) in enumerate(outcomes.items()):
        key = content_id("k", number)
        note_step(context, write_step(place / f"{stage}-{key[:16]}", stage, key, outcome))
    return place


def add_step(run: Path, stage: str, questions: Sequence[Question]) -> None:
    """Add a step with questions to a run."""
    key = content_id("k", stage, [q.id for q in questions])
    home = run / f"{stage}-{key[:16]}"
    with (run / "journal.jsonl").open("a") as stream:
        stream.write(JournalEntry(kind="step", name=home.name).model_dump_json() + "\n")
    write_step(home, stage, key, Outcome({QUESTIONS: list(questions)}, ()))


def relabelled_passages() -> tuple[list[CandidateSet], list[LabelChange], tuple[Dropped, ...]]:
    """Return a query with one promoted and one removed candidate."""
    positive = Passage(id="p0", text="Laptops can be borrowed at the library session.", title="Borrowing")
    promoted = Passage(id="p1", text=f"Opening hours vary. {EVIDENCE}, with a card.")
    removed = Passage(id="p2", text="You may borrow many things here, some of them for weeks.")
    row = CandidateSet(
        id="row1",
        query_id="query/1?",
        query="Can I borrow a laptop?",
        positives=(positive, promoted),
        negatives=(),
    )
    lost = Dropped(
        id="x1",
        kind="passage",
        stage="relabel_retrieval",
        reason="evidence_below_positive",
        because_of=None,
        similarity=None,
        text=removed.text,
        record=removed.model_dump_json(),
    )
    return [row], [_change("p1", "positive", EVIDENCE), _change("p2", "removed", None)], (lost,)


def _change(passage: str, after: str, evidence: str | None) -> LabelChange:
    return LabelChange(
        id=f"lc_{passage}",
        subject_id=passage,
        subject_kind="passage",
        query_id="query/1?",
        step=0,
        before="hard_negative",
        after=after,
        reason="ranked_above_positive" if evidence else "evidence_below_positive",
        judge="lexical",
        evidence=evidence,
        stage="relabel",
    )
