"""Describe a run or a release, for `counterfoil show` and for the summary of a build."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flows.workspace import open_workspace
from schemas.answers import RESPONSES
from schemas.errors import InputError
from schemas.labels import StageCounts
from schemas.question import QUESTIONS, Question
from tasks.files.own_questions import translation_notes
from tasks.release import CONTROLS, HARD_NEGATIVES, MANIFEST, open_release
from tasks.release.findings import release_findings
from tasks.report import release_saturation, summarise_release
from tasks.report.cells import release_cells, release_combinations
from tasks.report.coverage import release_coverage
from tasks.run.journal import calls_sent, funnel, journal_path, read_journal, total_costs
from tasks.run.progress import StageState, read_stage
from tasks.run.store import Step, is_locked
from tasks.text.model_names import short_name


def describe(place: Path) -> dict[str, Any]:
    """Describe a run directory or a release directory with the fields of `show --json`.

    Raises:
        InputError: If the directory is neither.
    """
    if (place / MANIFEST).is_file():
        return _describe_release(place)
    if journal_path(place).is_file():
        return _describe_run(place)
    raise InputError(
        f"{place} is neither a run nor a release",
        hint="runs are in data/runs/<name>, releases in data/releases/<name>/<version>",
    )


def _describe_release(place: Path) -> dict[str, Any]:
    release = open_release(place)
    manifest = release.manifest
    data_dir = open_workspace().with_attributes(place).vocabulary
    return {
        "name": f"{manifest.name} {manifest.version}",
        "state": "release; every file matches the manifest",
        "counts": counts_by_stage(manifest.counts),
        "rows": manifest.rows,
        "parameter_changes": [c.model_dump() for c in manifest.parameter_changes],
        "translations": translation_notes(release.contents.rows(QUESTIONS)),
        "coverage": release_coverage(release.contents, manifest.counts).to_json(),
        "cells": [cell.to_json() for cell in release_cells(release.contents)],
        "combinations": [c.to_json() for c in release_combinations(manifest, release.contents, data_dir)],
        "findings": [f.model_dump() for f in release_findings(release.contents, manifest, data_dir)],
        "summary": summarise_release(manifest, release.contents, data_dir),
        "saturation": release_saturation(manifest, release.contents, data_dir),
        "treatment": [row.model_dump() for row in manifest.review.treatment] if manifest.review else [],
        "places": {"release": str(place), "report": str(place / "report.html")},
        "next": f'datasets.load_dataset("{place}", "questions")',
    }


def _describe_run(place: Path) -> dict[str, Any]:
    steps, release = read_journal(place)
    running = read_stage(place) if is_locked(place) else None
    places = {"run": str(place)}
    if release is not None:
        places |= {"release": str(release), "report": str(release / "report.html")}
    return {
        "name": place.name,
        "state": describe_running(running)
        if running
        else "finished"
        if release
        else _unfinished(place, steps),
        "counts": counts_by_stage(funnel(steps)),
        "running": asdict(running) | {"coverage": running.coverage} if running else None,
        "places": places,
        "next": _next_step(release, running),
    }


def _state(place: Path, steps: Sequence[Step], release: Path | None, running: StageState | None) -> str:
    if running:
        return describe_running(running)
    return "finished" if release else _unfinished(place, steps)


def describe_running(stage: StageState) -> str:
    """Return the running stage of a build in words."""
    count = f" {stage.done:,}" + (f" of {stage.total:,}" if stage.total is not None else "")
    parts = [f"running: stage {stage.number} of {stage.of}, {stage.stage}"]
    parts += [f"{stage.work}{count}"] if stage.work else []
    parts += [f"coverage {100 * stage.coverage:.0f} %"] if stage.coverage is not None else []
    parts += [f"${stage.cost_usd:.2f} so far"] if stage.cost_usd is not None else []
    return "; ".join(parts)


def _next_step(release: Path | None, running: StageState | None) -> str:
    if running:
        return "wait until the build ends; Ctrl-C stops it, and it resumes later"
    return f"counterfoil show {release}" if release else "build the recipe again to resume"


def _unfinished(place: Path, steps: Sequence[Step]) -> str:
    from flows.reviews import read_waiting  # imports the judges, which no finished run needs

    if waiting := read_waiting(place):
        share = f"{waiting.needed:,} of {len(waiting.questions):,} accepted questions"
        return f"waiting for reviews of {share}: `counterfoil review {place}`"
    return f"not finished; the last finished step is {steps[-1].stage if steps else 'none'}"


def describe_build(run_dir: Path, release: Path) -> dict[str, Any]:
    """Describe a finished build with the fields of `build --json`."""
    from tasks.models.budget import spent_in

    steps, _ = read_journal(run_dir)
    opened = open_release(release)
    data_dir = open_workspace().with_attributes(release).vocabulary
    sent = calls_sent(run_dir)
    calls = sum(cost.calls for cost in total_costs(steps))
    return {
        "release": str(release),
        "version": release.name,
        "coverage": release_coverage(opened.contents, opened.manifest.counts).to_json(),
        "summary": summarise_release(opened.manifest, opened.contents, data_dir),
        "run": str(run_dir),
        "counts": counts_by_stage(funnel(steps)),
        "calls": {"sent": sent, "cached": max(0, calls - sent)},
        "cost_usd": spent_in(run_dir),
    }


def counts_by_stage(counts: Sequence[StageCounts]) -> dict[str, dict[str, int]]:
    """Return the funnel with the fields of `--json`."""
    return {c.stage: {"in": c.rows, "kept": c.kept, "dropped": c.dropped, "failed": c.failed} for c in counts}


def example_groups(release: Path, count: int) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """Return some groups of a release as (kind and model, template, [(value, answer)]).

    The answers are those of one model.

    Accepted advice questions come first, by fitness. Hard negatives and controls follow.
    """
    contents = open_release(release).contents
    ranked = [q for config in (QUESTIONS, HARD_NEGATIVES, CONTROLS) for q in _ranked(contents.rows(config))]
    responses = contents.rows(RESPONSES)
    model = min((response.model for response in responses), default="")
    answers: dict[tuple[str, int], str] = {}
    for response in responses:
        if response.model == model:
            answers.setdefault((response.question_id, response.variant), response.text)
    of_model = f", {short_name(model)}" if model else ""
    return [(_kind(q) + of_model, q.template, _answers_of(q, answers)) for q in ranked[:count]]


def _ranked(questions: list[Question]) -> list[Question]:
    return sorted((q for q in questions if q.family == "open"), key=lambda q: (-(q.fitness or 0.0), q.id))


def _kind(question: Question) -> str:
    kinds = {"a_a": "A/A control", "placebo": "placebo control", "neutral": "neutral control"}
    return kinds.get(question.control, question.label.replace("_", " "))


def _answers_of(question: Question, answers: dict[tuple[str, int], str]) -> list[tuple[str, str]]:
    return [(v.value, answers.get((question.id, v.index), "(no answer)")) for v in question.variants]
