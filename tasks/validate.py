"""Validate: the gate before a release. It says what is wrong with which rows; whether to stop is decided
by `raise_if_failed`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.attribute import Attribute
from schemas.decision import DROPPED, StageCounts
from schemas.effect import EFFECTS
from schemas.errors import GateError, InputError
from schemas.judgement import JUDGEMENTS
from schemas.label import LABEL_HISTORY
from schemas.question import QUESTIONS
from schemas.response import RESPONSES
from schemas.validation import FAILING_ROWS, SUITE_RESULTS, VALIDATION, Finding, SuiteResult, Validation
from tasks.checks.data_docs import write_pages
from tasks.checks.examination import Examination, Knowledge, examine
from tasks.checks.findings import failing_rows
from tasks.checks.foreign import examine_dataset
from tasks.checks.judgements import Scale
from tasks.checks.release_files import open_release_files, tables_of
from tasks.formats.vocabulary import read_attribute, read_rubric, vocabulary_dir
from tasks.release.reading import MANIFEST
from tasks.store import Outcome, RunContext, Stage, Step, TableRef, read_table

VOCABULARY = vocabulary_dir()
SHOWN = 12
"""Findings that fit on one screen."""

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
) -> Outcome:
    """Put every check to the tables that are given; raises nothing.

    `generated`: the tables of all stages that made questions; every one of them must have ended somewhere.
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
    knowledge = Knowledge(
        attributes=known_attributes(Path(context.data_dir), tables),
        scales=known_scales(Path(context.data_dir), tables),
        max_failure_rate=recipe.validation.max_failure_rate,
        counts=tuple(counts),
        generated=made,
        may_lose_elsewhere=bool(recipe.deduplicate.against),
    )
    return _outcome(examine(tables, knowledge))


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


def known_attributes(data_dir: Path, tables: dict[str, pa.Table]) -> dict[str, Attribute]:
    """The attributes that the questions name, as far as there are files of them."""
    known = {}
    for name in _distinct(tables, QUESTIONS.name, "attribute"):
        try:
            known[name] = read_attribute(data_dir, name)
        except InputError:
            continue
    return known


def known_scales(data_dir: Path, tables: dict[str, pa.Table]) -> dict[tuple[str, str], Scale]:
    """Lowest and highest score of every criterion of the rubrics that were used."""
    scales = {}
    for name in _distinct(tables, JUDGEMENTS.name, "rubric"):
        try:
            rubric = read_rubric(data_dir, name)
        except InputError:
            continue
        scales.update({(name, c.id): (float(c.low), float(c.high)) for c in rubric.criteria})
    return scales


def _distinct(tables: dict[str, pa.Table], table: str, column: str) -> list[str]:
    rows = tables.get(table)
    if rows is None or column not in rows.column_names:
        return []
    return sorted({str(value) for value in rows[column].unique().to_pylist() if value is not None})


def _outcome(examination: Examination) -> Outcome:
    verdict = examination.validation
    counts = StageCounts(
        stage="validate", unit="tables", rows=len(verdict.rows), kept=len(verdict.rows), dropped=0, failed=0
    )
    return Outcome(
        tables={
            VALIDATION: verdict.findings,
            FAILING_ROWS: failing_rows(examination.problems),
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
    told = [_told(f) for f in errors[:SHOWN]]
    if len(errors) > SHOWN:
        told.append(f"  … and {len(errors) - SHOWN} more")
    plural = "s" if len(errors) != 1 else ""
    raise GateError(
        "\n".join([f"validation found {len(errors)} error{plural}:", *told]),
        place=str(where) if where else None,
        hint="each line says what is wrong; the failing rows are all in that file"
        if where
        else "each line says what is wrong, and names the first rows",
    )


def _told(finding: Finding) -> str:
    rows = "1 row" if finding.count == 1 else f"{finding.count} rows"
    examples = ", ".join(finding.examples[:3]) + (", …" if finding.count > 3 else "")
    return f"  {finding.table} · {finding.check} · {rows}: {finding.message} [{examples}]"


def write_data_docs(results: Iterable[SuiteResult], out: Path, data_dir: Path = VOCABULARY) -> list[Path]:
    """Great Expectations' pages, one a table, under stable names and the same to the byte every time."""
    return write_pages(results, out, data_dir)


def validate_path(path: Path, data_dir: Path = VOCABULARY) -> Validation:
    """The gate on a release directory, or on any dataset. Raises `InputError` where nothing can be read."""
    if not path.exists():
        raise InputError(f"there is no {path}", hint="give a release directory, or a dataset file or folder")
    if (path / MANIFEST).is_file() or (path / "data" / QUESTIONS.name).is_dir():
        return _examine_release(path, data_dir).validation
    return examine_dataset(path, Knowledge()).validation


def _examine_release(path: Path, data_dir: Path) -> Examination:
    files = open_release_files(path)
    tables = tables_of(files.configs)
    recipe = files.manifest.recipe if files.manifest else {}
    knowledge = Knowledge(
        attributes=known_attributes(data_dir, tables),
        scales=known_scales(data_dir, tables),
        max_failure_rate=recipe.get("validate", {}).get("max_failure_rate"),
        counts=files.manifest.counts if files.manifest else (),
        may_lose_elsewhere=bool(recipe.get("deduplicate", {}).get("against")),
    )
    return examine(tables, knowledge).with_problems(files.problems)


STAGE = Stage(
    "validate",
    1,
    run=validate,
    reads=("validation", "deduplicate"),
    vocabulary=("attributes", "rubrics"),
)
