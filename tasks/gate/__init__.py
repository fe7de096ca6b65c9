"""Validate: the gate before a release. It says what is wrong with which rows; whether to stop is decided
by `raise_if_failed`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
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
from schemas.question import QUESTIONS
from tasks.checks.catalogue import Problem, problem
from tasks.checks.release_files import open_release_files, tables_of
from tasks.files.vocabulary import vocabulary_dir
from tasks.gate.examination import (
    Examination,
    KnownVocabulary,
    examine,
    known_attributes,
    known_scales,
    known_vocabulary_words,
)
from tasks.gate.foreign import examine_dataset, read_layouts
from tasks.gate.great_expectations import write_pages
from tasks.release import MANIFEST
from tasks.run.journal import funnel, journal_path, read_journal
from tasks.run.store import Outcome, RunContext, Stage, Step, TableRef, read_table, write_bytes

VOCABULARY = vocabulary_dir()
SHOWN = 10
"""Findings that fit on one screen, two lines each."""

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
) -> Outcome:
    """Put every check to the tables that are given; raises nothing.

    `generated`: the tables of all stages that made questions; every one of them must have ended somewhere.
    `quarantine`: what became of the questions that failed before they were measured.
    The tables written are the findings, all failing rows, and what Great Expectations said; the verdict is in
    the notes (`validation_of`).
    """
    given = {
        QUESTIONS.name: [*_listed(questions), *_listed(hard_negatives), *_listed(controls)],
        RESPONSES.name: _listed(responses),
        JUDGEMENTS.name: _listed(judgements),
        LABEL_HISTORY.name: _listed(label_history),
        EFFECTS.name: _listed(effects),
        DROPPED.name: _listed(dropped),
    }
    tables = {name: read_parts(refs) for name, refs in given.items() if refs}
    made = frozenset(
        name
        for ref in _listed(generated)
        for name in pq.read_table(ref.path, columns=["id"])["id"].to_pylist()
    )
    recipe = context.recipe
    knowledge = KnownVocabulary(
        attributes=known_attributes(Path(context.data_dir), tables),
        scales=known_scales(Path(context.data_dir), tables),
        words=known_vocabulary_words(Path(context.data_dir)),
        max_failure_rate=recipe.validation.max_failure_rate,
        counts=tuple(counts),
        generated=made,
        may_lose_elsewhere=bool(recipe.deduplicate.against),
    )
    return _outcome(examine(tables, knowledge).with_problems(left_in(quarantine)))


def left_in(quarantine: Quarantine | None) -> list[Problem]:
    """That more questions failed than the recipe lets be taken out, so that none was."""
    if quarantine is None or quarantine.taken == quarantine.failing:
        return []
    detail = (
        f"{quarantine.failing} of {quarantine.questions}; validate.max_quarantine_rate is {quarantine.limit}"
    )
    return problem("questions", "too_many_to_quarantine", quarantine.checks, detail=detail)


def _listed(refs: Refs) -> list[TableRef]:
    if refs is None:
        return []
    return [refs] if isinstance(refs, TableRef) else list(refs)


def read_parts(refs: Iterable[TableRef]) -> pa.Table:
    """One table of several parts. A row that stands in two parts counts once, but not twice in one part."""
    parts: list[pa.Table] = []
    seen: set[str] = set()
    for ref in refs:
        part = pq.read_table(ref.path)
        if "id" in part.column_names:
            ids = part["id"].to_pylist()
            part = part.filter(pa.array([name not in seen for name in ids], pa.bool_()))
            seen.update(ids)
        parts.append(part)
    return pa.concat_tables(parts, promote_options="permissive")


def _outcome(examination: Examination) -> Outcome:
    verdict = examination.validation
    counts = StageCounts(
        stage="validate", unit="tables", rows=len(verdict.rows), kept=len(verdict.rows), dropped=0, failed=0
    )
    return Outcome(
        tables={
            VALIDATION: verdict.findings,
            FAILING_ROWS: examination.failing,
            SUITE_RESULTS: examination.suites,
        },
        counts=(counts,),
        notes=verdict.model_dump_json(),
    )


def validation_of(step: Step) -> Validation:
    """The verdict of a finished step."""
    return Validation.model_validate_json(step.notes)


def suite_results_of(step: Step) -> list[SuiteResult]:
    """What Great Expectations said, for `write_data_docs`."""
    return read_table(step.table(SUITE_RESULTS.name), SUITE_RESULTS)


def raise_if_failed(validation: Validation, where: str | Path | None = None) -> None:
    """Raise `GateError` with the errors on one screen; `where` is the file with all failing rows."""
    if validation.passed:
        return
    errors = [f for f in validation.findings if f.severity == "error"]
    told = [line for f in errors[:SHOWN] for line in told_of(f)]
    if len(errors) > SHOWN:
        told.append(f"  … and {len(errors) - SHOWN} more")
    plural = "s" if len(errors) != 1 else ""
    raise GateError(
        "\n".join([f"validation found {len(errors)} error{plural}:", *told]),
        place=str(where) if where else None,
        hint="that file holds every failing row: mend what they name and build again (finished steps are "
        "kept); validate.on_failure says whether questions that fail may be taken out instead"
        if where
        else "mend what the lines above name",
    )


def told_of(finding: Finding) -> list[str]:
    """What is wrong, where, and one example of it: two lines."""
    rows = "1 row" if finding.count == 1 else f"{finding.count} rows"
    examples = ", ".join(finding.examples[: 1 if finding.excerpt else 3])
    said = f" “{finding.excerpt}”" if finding.excerpt else ""
    more = ", …" if (finding.count > 1 and finding.excerpt) or finding.count > 3 else ""
    return [
        f"  {finding.table} · {finding.check} · {rows}: {finding.message}",
        f"      {examples}{said}{more}",
    ]


def write_data_docs(results: Iterable[SuiteResult], out: Path, data_dir: Path = VOCABULARY) -> list[Path]:
    """Great Expectations' pages, one a table, under stable names and the same to the byte every time."""
    return write_pages(results, out, data_dir)


def validate_path(path: Path, data_dir: Path = VOCABULARY) -> Validation:
    """The verdict of `examine_path`."""
    return examine_path(path, data_dir).validation


def examine_path(path: Path, data_dir: Path = VOCABULARY) -> Examination:
    """The gate on a release directory, a run directory, or any dataset. Raises `InputError` where nothing can
    be read."""
    if not path.exists():
        raise InputError(
            f"there is no {path}", hint="give a release or a run directory, or a dataset file or folder"
        )
    if (path / MANIFEST).is_file() or (path / "data" / QUESTIONS.name).is_dir():
        return _examine_release(path, data_dir)
    if journal_path(path).is_file():
        return _examine_run(path, data_dir)
    return examine_dataset(path, KnownVocabulary(), read_layouts(data_dir))


def _examine_release(path: Path, data_dir: Path) -> Examination:
    files = open_release_files(path)
    tables = tables_of(files.configs)
    recipe = files.manifest.recipe if files.manifest else {}
    counts = files.manifest.counts if files.manifest else ()
    found = examine(tables, _knowledge_of(tables, recipe, counts, data_dir))
    return found.with_problems(files.problems)


def _examine_run(path: Path, data_dir: Path) -> Examination:
    """What the latest build of a run assembled. Raises `InputError` where it did not come to that."""
    steps, _ = read_journal(path)
    at = next((i for i, step in enumerate(steps) if step.stage == "assemble"), None)
    if at is None:
        raise InputError(
            f"the run {path.name} has assembled nothing yet",
            place=str(path),
            hint="build the recipe again: it resumes; `counterfoil show` tells how far it came",
        )
    configs = {ref.table: pq.read_table(ref.path) for ref in steps[at].tables}
    recipe = json.loads((path / "recipe.json").read_bytes())
    tables = tables_of(configs)
    return examine(tables, _knowledge_of(tables, recipe, funnel(steps[: at + 1]), data_dir))


def _knowledge_of(
    tables: dict[str, pa.Table], recipe: dict[str, Any], counts: tuple[StageCounts, ...], data_dir: Path
) -> KnownVocabulary:
    return KnownVocabulary(
        attributes=known_attributes(data_dir, tables),
        scales=known_scales(data_dir, tables),
        words=known_vocabulary_words(data_dir),
        max_failure_rate=recipe.get("validate", {}).get("max_failure_rate"),
        counts=counts,
        may_lose_elsewhere=bool(recipe.get("deduplicate", {}).get("against")),
    )


def write_failing_rows(rows: Iterable[FailingRow], place: Path) -> None:
    """All failing rows, one JSON object a line."""
    lines = (row.model_dump_json() for row in rows)
    write_bytes(place, "".join(f"{line}\n" for line in lines).encode())


STAGE = Stage(
    "validate",
    2,
    run=validate,
    reads=("validation", "deduplicate"),
    vocabulary=("attributes", "lexicons", "rubrics"),
)
