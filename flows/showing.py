"""What a run or a release holds, for `show` and for the summary of a build."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flows.reviewing import read_waiting
from schemas.decision import StageCounts
from schemas.errors import InputError
from schemas.question import QUESTIONS, Question
from schemas.response import RESPONSES
from tasks.journal import funnel, journal_path, read_journal
from tasks.release.configs import CONTROLS, HARD_NEGATIVES
from tasks.release.reading import MANIFEST, open_release
from tasks.store import Step


def counts_by_stage(counts: tuple[StageCounts, ...]) -> dict[str, dict[str, int]]:
    """The funnel as `--json` carries it."""
    return {c.stage: {"in": c.rows, "kept": c.kept, "dropped": c.dropped, "failed": c.failed} for c in counts}


def describe(place: Path) -> dict[str, Any]:
    """A run directory or a release directory in figures. Raises `InputError` for anything else."""
    if (place / MANIFEST).is_file():
        return _describe_release(place)
    if journal_path(place).is_file():
        return _describe_run(place)
    raise InputError(
        f"{place} is neither a run nor a release",
        hint="runs are in data/runs/<name>, releases in data/releases/<name>/<version>",
    )


def _describe_release(place: Path) -> dict[str, Any]:
    manifest = open_release(place).manifest
    return {
        "name": f"{manifest.name} {manifest.version}",
        "state": "release; every file matches the manifest",
        "counts": counts_by_stage(manifest.counts),
        "rows": manifest.rows,
        "places": {"release": str(place), "report": str(place / "report.html")},
        "next": f'datasets.load_dataset("{place}", "questions")',
    }


def _describe_run(place: Path) -> dict[str, Any]:
    steps, release = read_journal(place)
    places = {"run": str(place)}
    if release is not None:
        places |= {"release": str(release), "report": str(release / "report.html")}
    return {
        "name": place.name,
        "state": "finished" if release else _unfinished(place, steps),
        "counts": counts_by_stage(funnel(steps)),
        "places": places,
        "next": f"counterfoil show {release}" if release else "build the recipe again: it resumes",
    }


def _unfinished(place: Path, steps: Sequence[Step]) -> str:
    if waiting := read_waiting(place):
        of = f"{waiting.needed:,} of {len(waiting.questions):,} accepted questions"
        return f"waits until people have settled {of}: `counterfoil review {place}`"
    return f"not finished; the last step taken is {steps[-1].stage if steps else 'nothing'}"


def example_groups(release: Path, count: int) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """Some groups to look at: what they are, their text, one answer to every variant. Accepted advice
    questions come first, by fitness; where there are too few, hard negatives and controls follow."""
    contents = open_release(release).contents
    shown = [q for config in (QUESTIONS, HARD_NEGATIVES, CONTROLS) for q in _ranked(contents.rows(config))]
    answers: dict[tuple[str, int], str] = {}
    for response in contents.rows(RESPONSES):
        answers.setdefault((response.question_id, response.variant), response.text)
    return [(_kind(q), q.template, _answers_of(q, answers)) for q in shown[:count]]


def _ranked(questions: list[Question]) -> list[Question]:
    return sorted((q for q in questions if q.family == "open"), key=lambda q: (-(q.fitness or 0.0), q.id))


def _kind(question: Question) -> str:
    kinds = {"a_a": "A/A control", "placebo": "placebo control", "neutral": "neutral control"}
    return kinds.get(question.control, question.label.replace("_", " "))


def _answers_of(question: Question, answers: dict[tuple[str, int], str]) -> list[tuple[str, str]]:
    return [(v.value, answers.get((question.id, v.index), "(no answer)")) for v in question.variants]
