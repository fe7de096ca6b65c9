"""What a run or a release holds, for `show` and for the summary of a build."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.reviews import read_waiting
from flows.workspace import Workspace, open_workspace, read_recipe
from schemas.answers import RESPONSES
from schemas.errors import InputError
from schemas.labels import StageCounts
from schemas.question import QUESTIONS, Question
from tasks.models.budget import spent_in
from tasks.release import CONTROLS, HARD_NEGATIVES, MANIFEST, open_release
from tasks.run.journal import calls_sent, funnel, journal_path, read_journal, total_costs
from tasks.run.store import Step, forget_run

if TYPE_CHECKING:
    from tasks.models.names import ModelSettings


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


# Running flows from the command line: Prefect kept quiet, errors kept whole, a result to print.


def run_build(
    recipe: Path,
    *,
    out: Path | None,
    runner: str,
    budget_usd: float | None,
    wait: bool = False,
    fresh: bool,
) -> dict[str, Any]:
    """Build a recipe and describe the result with the fields that `build --json` promises."""
    workspace = open_workspace()
    run_dir = workspace.runs / read_recipe(recipe).name
    if fresh:
        forget_run(run_dir)
    from flows.engine import task_runner

    with task_runner(runner, workspace) as chosen:
        from flows.build import build

        flow = build.with_options(task_runner=chosen)
        release = flow(str(recipe), out=str(out) if out else None, budget_usd=budget_usd, wait=wait)
    return describe_build(run_dir, Path(release))


def run_deduplicate(
    input: Path,
    *,
    runner: str | None = None,
    semantic: float | None = None,
    embedder: str = "",
    budget_usd: float = 0.0,
    free: tuple[str, ...] = (),
    **options: Any,
) -> dict[str, Any]:
    """Deduplicate a file (options of `tasks.deduplicate.file.deduplicate_file`): in this process, without
    Prefect, or on a task runner."""
    from tasks.deduplicate.file import deduplicate_file
    from tasks.deduplicate.semantic import SemanticOptions

    workspace = open_workspace()
    if semantic is not None:
        settings = _command_settings(workspace, "deduplicate", input, budget_usd, free)
        options["then"] = SemanticOptions(embedder, semantic, settings)
    if runner is None:
        return deduplicate_file(input, **options)
    from flows.engine import task_runner

    with task_runner(runner, workspace) as chosen:
        from flows.deduplicate import deduplicate

        return deduplicate.with_options(task_runner=chosen)(input.resolve(), options)


def _command_settings(
    workspace: Workspace, command: str, input: Path, budget_usd: float, free: tuple[str, ...]
) -> ModelSettings:
    """What the models of a command on one file need to know; what it spent is recorded by file."""
    from schemas.tables import content_hash
    from tasks.models.names import ModelSettings

    return ModelSettings(
        data_dir=workspace.vocabulary,
        run_dir=workspace.runs / f"{command}-{content_hash(str(input.resolve()))[:12]}",
        cache_path=workspace.cache,
        budget_usd=budget_usd,
        free=frozenset(free),
    )


def describe_build(run_dir: Path, release: Path) -> dict[str, Any]:
    """What came out of a finished build."""
    steps, _ = read_journal(run_dir)
    costs = total_costs(steps)
    sent = calls_sent(run_dir)
    calls = sum(c.calls for c in costs)
    return {
        "release": str(release),
        "version": release.name,
        "run": str(run_dir),
        "counts": counts_by_stage(funnel(steps)),
        "calls": {"sent": sent, "cached": max(0, calls - sent)},
        "cost_usd": spent_in(run_dir),
    }


def run_relabel(
    input: Path,
    *,
    judges: tuple[str, ...] = (),
    verdicts: Path | None = None,
    budget_usd: float = 0.0,
    free: tuple[str, ...] = (),
    **options: Any,
) -> dict[str, Any]:
    """Clean a retrieval set (options of `tasks.relabel.file.relabel_file`); what is wrong with the models
    is told before anything is spent. Prefect is left out of it: its start takes longer than most files."""
    import asyncio

    from tasks.models import check_models, ping
    from tasks.relabel.file import relabel_file

    settings = _command_settings(open_workspace(), "relabel", input, budget_usd, free)
    names = [name for name in judges if ":" in name and not verdicts]
    check_models(names, settings)
    asyncio.run(ping(names, settings))
    return relabel_file(input, settings=settings, judges=judges, verdicts=verdicts, **options)


def run_reword(file: Path, *, recipe: Path, out: Path, count: int) -> dict[str, Any]:
    """Have the premises of one file reworded, and write the file with those that fool a target. Raises
    `InputError`, and `BudgetError` where it may cost more than the recipe's budget leaves."""
    import asyncio
    from collections import Counter

    import yaml

    from schemas.vocabulary import Themes
    from tasks.evolve.reword import reword
    from tasks.files.yaml import read_yaml
    from tasks.models import ModelSettings, check_models, ping
    from tasks.run.store import run_lock, write_bytes

    workspace = open_workspace()
    said = read_recipe(recipe)
    context = workspace.context(said)
    context = context.model_copy(update={"run_dir": str(workspace.runs / f"{said.name}-reword-{file.stem}")})
    settings = ModelSettings.of(context)
    names = [n for n in (said.models.generator, *said.models.targets) if ":" in n]
    themes = read_yaml(file, Themes)
    check_models(names, settings)
    asyncio.run(ping(names, settings))
    with run_lock(Path(context.run_dir)):
        found = reword(context, themes, count)
    text = yaml.safe_dump(
        found.themes.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(out, text.encode())
    reasons = Counter(d.reason for d in found.discarded)
    return {"out": str(out), "kept": found.kept, "discarded": dict(sorted(reasons.items()))}
