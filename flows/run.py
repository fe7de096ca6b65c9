"""Run the commands that need a workspace: each function takes the options of one command.

Prefect and the stages are imported inside the functions, so that `plan` and `show` start quickly.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.lazy_flow import TAG, subject
from flows.options import flow_parameters
from flows.outputs import Outputs, existing, protect
from flows.workspace import has_prefect_server, limited_recipe, open_workspace, quiet_prefect, read_recipe
from schemas.errors import GateError, InputError
from schemas.options import (
    BuildOptions,
    DeduplicateOptions,
    DiffOptions,
    EvaluateOptions,
    ExportOptions,
    FixOptions,
    MeasureOptions,
    Options,
    PlanOptions,
    RefreshOptions,
    RejudgeOptions,
    RelabelOptions,
    ShowOptions,
    ValidateOptions,
)
from tasks.run.store import forget_run

if TYPE_CHECKING:
    from schemas.gate import Validation
    from tasks.estimate import BuildEstimate


def run_plan(options: PlanOptions) -> BuildEstimate:
    """Estimate a build, or the next refresh, offline."""
    if options.refresh:
        from flows.next_refresh import plan_next_refresh

        return plan_next_refresh(options)
    given = [name for name in ("contamination", "period", "out") if getattr(options, name)]
    if given:
        raise InputError(f"--{given[0]} belongs to --refresh", hint="add --refresh, or leave it out")
    from flows.prepare import prepare

    return prepare(options.recipe, budget_usd=None, reach=False).estimate


def run_build(options: BuildOptions) -> dict[str, Any]:
    """Build a recipe and return the fields of `build --json`."""
    from flows.show import describe_build

    workspace = open_workspace()
    try:
        recipe = read_recipe(options.recipe)
    except InputError:
        from flows.prepare import prepare

        prepare(options.recipe, budget_usd=None, reach=False)  # lists all problems at once
        raise
    run_dir = workspace.runs / limited_recipe(recipe, options.limit).name
    if options.fresh:
        forget_run(run_dir)
    quiet_prefect(workspace)
    from flows.build import build

    release = _run_flow(build, options, runner=options.runner, prefect=options.prefect)
    return describe_build(run_dir, Path(release))


def run_relabel(options: RelabelOptions) -> dict[str, Any]:
    """Relabel a retrieval set in this process, or on a Prefect task runner."""
    if options.runner is None or options.plan:
        from flows.files import relabel_set

        return relabel_set(options)
    from flows.server import task_runner

    with task_runner(options.runner, open_workspace()) as runner:
        from flows.relabel import relabel

        return dict(_on_prefect(relabel, options, runner))


def run_deduplicate(options: DeduplicateOptions) -> dict[str, Any]:
    """Deduplicate a table in this process, or on a Prefect task runner."""
    if options.runner is None:
        from flows.files import deduplicate_table

        return deduplicate_table(options)
    from flows.server import task_runner

    with task_runner(options.runner, open_workspace()) as runner:
        from flows.deduplicate import deduplicate

        return dict(_on_prefect(deduplicate, options, runner))


def run_evaluate(options: EvaluateOptions) -> dict[str, Any]:
    """Ask models the questions of a release and return the fields of `evaluate --json`."""
    quiet_prefect(open_workspace())
    from flows.evaluate import evaluate

    return dict(_run_flow(evaluate, options, prefect=options.prefect))


def run_rejudge(options: RejudgeOptions) -> dict[str, Any]:
    """Judge the answers of a release again and return the fields of `rejudge --json`."""
    quiet_prefect(open_workspace())
    from flows.evaluate import rejudge

    return dict(_run_flow(rejudge, options, prefect=options.prefect))


def run_fix(options: FixOptions) -> dict[str, Any]:
    """Correct a question and return the fields of `fix --json`."""
    quiet_prefect(open_workspace())
    from flows.fix import fix

    return dict(_run_flow(fix, options, prefect=options.prefect))


def run_refresh(options: RefreshOptions) -> dict[str, Any]:
    """Refresh a release and return the fields of `refresh --json`."""
    quiet_prefect(open_workspace())
    from flows.refresh import refresh

    return dict(_run_flow(refresh, options, prefect=options.prefect))


def _run_flow(flow: Any, options: Options, *, runner: str = "threads", prefect: bool = False) -> Any:
    """Run a flow on Prefect, or call its function if no server is configured and none is needed."""
    if not (prefect or runner != "threads" or has_prefect_server()):
        return flow.fn(**flow_parameters(options))
    from flows.server import task_runner

    with task_runner(runner, open_workspace()) as chosen:
        return _on_prefect(flow, options, chosen)


def _on_prefect(flow: Any, options: Options, runner: Any) -> Any:
    from prefect import tags

    parameters = flow_parameters(options)
    with tags(TAG, subject(parameters)):
        return flow.prefect().with_options(task_runner=runner)(**parameters)


def run_measure(options: MeasureOptions) -> dict[str, Any]:
    """Measure recorded answers."""
    from tasks.measure import measure_file

    return measure_file(
        options.family,
        options.input,
        format=options.format,
        test=options.test,
        min_coverage=options.min_coverage,
        baselines=options.baselines,
        data_dir=_vocabulary_for(options.input),
    )


def run_export(options: ExportOptions) -> dict[str, Any]:
    """Write a release in another format."""
    from tasks.package.export import check_target, default_target, export_release, target_files
    from tasks.release import open_release

    workspace = open_workspace().with_attributes(options.release)
    release = open_release(options.release)
    out = options.out or default_target(release.manifest, options.format, workspace.home)
    check_target(options.format, out)
    files = target_files(release.manifest, options.format, out)
    folder = None if files == (out,) else out
    outputs = Outputs(files, folder=folder, inputs=existing((options.release,)))
    with protect(outputs, "export", options, workspace.home):
        return export_release(release, format=options.format, out=out, data_dir=workspace.vocabulary)


def run_diff(options: DiffOptions) -> dict[str, Any]:
    """Compare two releases."""
    from tasks.package.compare import diff_releases
    from tasks.release import open_release
    from tasks.report import equate_releases

    data_dir = open_workspace().with_attributes(options.old, options.new).vocabulary
    equating = equate_releases(open_release(options.old), open_release(options.new), data_dir)
    return diff_releases(options.old, options.new) | {"equating": equating}


def run_show(options: ShowOptions) -> dict[str, Any]:
    """Describe a run or a release."""
    from flows.show import describe

    return describe(options.place)


def run_validate(options: ValidateOptions) -> Validation:
    """Check a release, a run or a file, and write its failing rows if `out` is given."""
    from tasks.gate import examine_path, write_failing_rows

    if options.out is None:
        return examine_path(options.path, _vocabulary_for(options.path)).validation
    outputs = Outputs((options.out,), inputs=existing((options.path,)))
    with protect(outputs, "validate", options, open_workspace().home):
        examination = examine_path(options.path, _vocabulary_for(options.path))
        write_failing_rows(examination.failing, options.out)
    return examination.validation


def _vocabulary_for(release: Path) -> Path:
    """Return the vocabulary with the attribute files of a release."""
    return open_workspace().with_attributes(release).vocabulary


def require_passed(options: ValidateOptions, validation: Validation) -> None:
    """Raise `GateError` if a check failed."""
    if not validation.passed:
        raise GateError(
            f"{options.path} did not pass the checks",
            place=str(options.out) if options.out else None,
            hint="correct what the findings above name; --out FILE writes every failing row",
        )
