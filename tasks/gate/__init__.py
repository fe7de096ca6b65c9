"""The validate stage: the checks that every release must pass."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from schemas.answers import EFFECTS, JUDGEMENTS, RESPONSES
from schemas.errors import GateError, InputError
from schemas.gate import (
    FAILING_ROWS,
    SUITE_RESULTS,
    VALIDATION,
    FailingRow,
    Finding,
    Quarantine,
    SuiteResult,
    Validation,
)
from schemas.labels import DROPPED, LABEL_HISTORY, StageCounts
from schemas.question import QUESTIONS, Question
from schemas.recipe import Recipe
from tasks.checks.catalogue import Problem, report_rows
from tasks.checks.release_files import merge_question_configs, open_release_files
from tasks.files.vocabulary import vocabulary_dir
from tasks.gate.examination import Examination, GateContext, examine, read_gate_context
from tasks.gate.foreign import examine_dataset, read_layouts
from tasks.gate.great_expectations import write_suite_pages
from tasks.gate.own_suites import check_own_suites
from tasks.questions.cells import recipe_coverage, total_coverage
from tasks.release import MANIFEST
from tasks.run.journal import funnel, journal_path, read_journal
from tasks.run.store import Outcome, RunContext, Stage, Step, TableRef, read_table, write_bytes

VOCABULARY = vocabulary_dir()
MAX_SHOWN = 10
"""Maximum number of findings in an error message. Each takes two lines."""

Refs = TableRef | Sequence[TableRef] | None


def validate(
    context: RunContext,
    *,
    questions: Refs,
    hard_negatives: Refs = None,
    controls: Refs = None,
    responses: Refs = None,
    judgements: Refs = None,
    label_history: Refs = None,
    dropped: Refs = None,
    effects: Refs = None,
    generated: Refs = None,
    counts: Sequence[StageCounts] = (),
    quarantine: Quarantine | None = None,
    own_suites: Sequence[Mapping[str, Any]] = (),
) -> Outcome:
    """Run every check on the given tables. Failures are reported, not raised (see `raise_if_failed`).

    Args:
        context: The run.
        questions: Accepted questions.
        hard_negatives: Questions that are hard negatives.
        controls: Questions that are controls.
        responses: Answers to the questions.
        judgements: Verdicts on the answers.
        label_history: Changes of labels.
        dropped: Dropped rows of all stages.
        effects: Measured effects.
        generated: Tables of all stages that generated questions. Each of these questions must be in one
        place.
        counts: Rows in and out of each stage.
        quarantine: Result of the quarantine.
        own_suites: Great Expectations suites of the recipe (see `read_own_suites`).

    Returns:
        The findings, all failing rows, the results of Great Expectations, and the `Validation` in the notes.
    """
    given = {
        QUESTIONS.name: [*_as_list(questions), *_as_list(hard_negatives), *_as_list(controls)],
        RESPONSES.name: _as_list(responses),
        JUDGEMENTS.name: _as_list(judgements),
        LABEL_HISTORY.name: _as_list(label_history),
        EFFECTS.name: _as_list(effects),
        DROPPED.name: _as_list(dropped),
    }
    tables = {name: read_concatenated(refs) for name, refs in given.items() if refs}
    generated_ids = frozenset(
        name
        for ref in _as_list(generated)
        for name in pq.read_table(ref.path, columns=["id"])["id"].to_pylist()
    )
    recipe = context.recipe
    facts = read_gate_context(
        Path(context.data_dir),
        tables,
        max_failure_rate=recipe.validation.max_failure_rate,
        max_abstention_rate=1 - recipe.validation.min_judged,
        counts=tuple(counts),
        generated=generated_ids,
        may_lose_elsewhere=bool(recipe.deduplicate.against),
    )
    more = check_quarantine_limit(quarantine)
    if recipe.coverage is not None:
        more += check_cells(recipe, QUESTIONS.from_arrow(tables[QUESTIONS.name]), Path(context.data_dir))
    more += check_own_suites(own_suites, tables)
    return _outcome(examine(tables, facts).with_problems(more))


STAGE = Stage(
    "validate",
    3,
    run=validate,
    reads=("validation", "deduplicate", "coverage"),
    vocabulary=("attributes", "lexicons", "rubrics"),
)


def check_cells(recipe: Recipe, questions: Iterable[Question], data_dir: Path) -> list[Problem]:
    """Report that the questions cover fewer combinations than the recipe requires, and the worst ones."""
    measured = recipe_coverage(recipe, questions, data_dir)
    whole = total_coverage(measured)
    if recipe.coverage is None or not measured or whole.share >= recipe.coverage.min:
        return []
    worst = sorted(measured, key=lambda c: c.share)[:3]
    named = "; ".join(f"{' x '.join(c.dimensions)}: {c.covered} of {c.valid}" for c in worst)
    detail = (
        f"{whole.covered} of {whole.valid} combinations are covered; coverage.min is {recipe.coverage.min}; "
        f"{named}"
    )
    return report_rows("questions", "cells_uncovered", ["coverage"], detail=detail)


def check_quarantine_limit(quarantine: Quarantine | None) -> list[Problem]:
    """Report that more questions fail than the limit of the recipe, so that none was quarantined."""
    if quarantine is None or quarantine.taken == quarantine.failing:
        return []
    detail = (
        f"{quarantine.failing} of {quarantine.questions}; validate.max_quarantine_rate is {quarantine.limit}"
    )
    return report_rows("questions", "too_many_to_quarantine", quarantine.checks, detail=detail)


def _as_list(refs: Refs) -> list[TableRef]:
    if refs is None:
        return []
    return [refs] if isinstance(refs, TableRef) else list(refs)


def read_concatenated(refs: Iterable[TableRef]) -> pa.Table:
    """Read several tables as one.

    Rows that an earlier table has are left out. Repeated rows within a table are kept, so that they are
    reported.
    """
    parts: list[pa.Table] = []
    seen: list[pa.Array] = []
    for ref in refs:
        part = pq.read_table(ref.path)
        if "id" in part.column_names:
            if seen:
                part = part.filter(pc.invert(pc.is_in(part["id"], value_set=pa.concat_arrays(seen))))
            seen += part["id"].chunks
        parts.append(part)
    return pa.concat_tables(parts, promote_options="permissive").combine_chunks()


def _outcome(examination: Examination) -> Outcome:
    validation = examination.validation
    tables = len(validation.rows)
    counts = StageCounts(stage="validate", unit="tables", rows=tables, kept=tables, dropped=0, failed=0)
    return Outcome(
        tables={
            VALIDATION: validation.findings,
            FAILING_ROWS: examination.failing,
            SUITE_RESULTS: examination.suites,
        },
        counts=(counts,),
        notes=validation.model_dump_json(),
    )


def read_validation(step: Step) -> Validation:
    """Return the validation of a finished step."""
    return Validation.model_validate_json(step.notes)


def read_suite_results(step: Step) -> list[SuiteResult]:
    """Return the results of Great Expectations of a finished step, for `write_data_docs`."""
    return read_table(step.table(SUITE_RESULTS.name), SUITE_RESULTS)


def raise_if_failed(validation: Validation, place: str | Path | None = None) -> None:
    """Raise `GateError` if the validation has errors.

    Args:
        validation: The validation.
        place: File with all failing rows, for the error message.
    """
    if validation.passed:
        return
    errors = [f for f in validation.findings if f.severity == "error"]
    lines = [line for f in errors[:MAX_SHOWN] for line in format_finding(f)]
    if len(errors) > MAX_SHOWN:
        lines.append(f"  … and {len(errors) - MAX_SHOWN} more")
    plural = "s" if len(errors) != 1 else ""
    raise GateError(
        "\n".join([f"validation found {len(errors)} error{plural}:", *lines]),
        place=str(place) if place else None,
        hint="the file lists every failing row. Correct their sources and build again (finished steps are "
        "reused), or set `validate.on_failure: quarantine` to leave failing questions out"
        if place
        else "correct the rows above",
    )


def format_finding(finding: Finding) -> list[str]:
    """Return a finding as two lines: the problem, and examples of the failing rows."""
    rows = "1 row" if finding.count == 1 else f"{finding.count} rows"
    examples = ", ".join(finding.examples[: 1 if finding.excerpt else 3])
    excerpt = f" “{finding.excerpt}”" if finding.excerpt else ""
    more = ", …" if (finding.count > 1 and finding.excerpt) or finding.count > 3 else ""
    return [
        f"  {finding.table} · {finding.check} · {rows}: {finding.message}",
        f"      {examples}{excerpt}{more}",
    ]


def write_data_docs(results: Iterable[SuiteResult], out: Path, data_dir: Path = VOCABULARY) -> list[Path]:
    """Write the pages of Great Expectations, one per table. Equal results give equal bytes."""
    return write_suite_pages(results, out, data_dir)


def write_failing_rows(rows: Iterable[FailingRow], place: Path) -> None:
    """Write the failing rows, one JSON object per line."""
    lines = (row.model_dump_json() for row in rows)
    write_bytes(place, "".join(f"{line}\n" for line in lines).encode())


def validate_path(path: Path, data_dir: Path = VOCABULARY) -> Validation:
    """Return the validation of `examine_path`."""
    return examine_path(path, data_dir).validation


def examine_path(path: Path, data_dir: Path = VOCABULARY) -> Examination:
    """Run every check on a release directory, a run directory, or any dataset.

    Raises:
        InputError: If the path has nothing to check.
    """
    if not path.exists():
        raise InputError(
            f"{path} does not exist", hint="give a release or a run directory, or a dataset file or folder"
        )
    if (path / MANIFEST).is_file() or (path / "data" / QUESTIONS.name).is_dir():
        return _examine_release(path, data_dir)
    if journal_path(path).is_file():
        return _examine_run(path, data_dir)
    return examine_dataset(path, GateContext(), read_layouts(data_dir))


def _examine_release(path: Path, data_dir: Path) -> Examination:
    files = open_release_files(path)
    tables = merge_question_configs(files.configs)
    recipe = files.manifest.recipe if files.manifest else {}
    counts = files.manifest.counts if files.manifest else ()
    examination = examine(tables, _recorded_context(tables, recipe, counts, data_dir))
    return examination.with_problems(files.problems)


def _examine_run(path: Path, data_dir: Path) -> Examination:
    """Check the tables that the latest build of a run assembled."""
    steps, _ = read_journal(path)
    at = next((i for i, step in enumerate(steps) if step.stage == "assemble"), None)
    if at is None:
        raise InputError(
            f"the run {path.name} has not assembled its tables yet",
            place=str(path),
            hint="build the recipe again to resume. `counterfoil show` shows the finished steps",
        )
    configs = {ref.table: pq.read_table(ref.path) for ref in steps[at].tables}
    try:
        recipe = dict(json.loads((path / "recipe.json").read_bytes()))
    except (OSError, ValueError, TypeError):
        raise InputError(
            "the recipe of the run cannot be read", place=str(path / "recipe.json"), hint="build it again"
        ) from None
    tables = merge_question_configs(configs)
    return examine(tables, _recorded_context(tables, recipe, funnel(steps[: at + 1]), data_dir))


def _recorded_context(
    tables: dict[str, pa.Table], recipe: dict[str, Any], counts: tuple[StageCounts, ...], data_dir: Path
) -> GateContext:
    """Return the context of a recorded recipe, which may be of another program version."""
    failures = _share(recipe, "max_failure_rate")
    judged = _share(recipe, "min_judged")
    return read_gate_context(
        data_dir,
        tables,
        max_failure_rate=failures,
        # Releases of earlier versions have no `min_judged`. Their abstentions count like failed calls.
        max_abstention_rate=failures if judged is None else 1 - judged,
        counts=counts,
        may_lose_elsewhere=bool(recipe.get("deduplicate", {}).get("against")),
    )


def _share(recipe: dict[str, Any], name: str) -> float | None:
    value = recipe.get("validate", {}).get(name)
    return float(value) if isinstance(value, (int, float)) and 0 <= value <= 1 else None
