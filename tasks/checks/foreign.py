"""A dataset that is not ours: Parquet, JSON Lines or CSV, checked for what is wrong in any dataset."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from schemas.errors import InputError
from schemas.tables import Row, Table
from schemas.validation import SuiteResult
from tasks.checks.examination import TABLES, Examination, Knowledge, examine
from tasks.checks.expected import Expected, Frame
from tasks.checks.findings import Problem, problem
from tasks.checks.suite import run_suite

BLOCK = 64 << 20
"""Bytes read at a time; no line of JSON may be longer."""
SUFFIXES = (".parquet", ".jsonl", ".ndjson", ".csv", ".tsv")
QUESTION_COLUMNS = frozenset({"question", "questions", "prompt", "text", "variant", "context", "query"})
"""Columns, by name, that hold what a model is asked: there personal data is an error."""
TEMPLATE_COLUMNS = frozenset({"template", "templates", "pattern", "record"})
"""Columns whose slots are meant to be open."""
KEY_COLUMNS = ("id", "question_id", "query_id", "qid", "docid")
ROW_NUMBER = "row number"
"""From 1; what a finding names where a dataset has no ids of ours."""
LOOKS_LIKE_OURS = 0.6
"""Share of a table's columns that have to be there for it to be taken for that table."""


def examine_dataset(path: Path, knowledge: Knowledge) -> Examination:
    """One file, or a folder of them. Raises `InputError` where nothing can be read."""
    files = _files(path)
    tables = {
        file.relative_to(path).as_posix() if file != path else file.name: read_any(file) for file in files
    }
    ours = {name: known for name, rows in tables.items() if (known := recognise(rows)) is not None}
    found = examine(_merge(tables, ours), knowledge)
    problems, suites = list(found.problems), list(found.suites)
    for name, rows in tables.items():
        if name not in ours:
            more, results = _examine_foreign(name, rows)
            problems += more
            suites += results
    return Examination(tuple(problems), tuple(suites), {name: rows.num_rows for name, rows in tables.items()})


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    files = sorted(f for f in path.rglob("*") if f.is_file() and f.suffix.lower() in SUFFIXES)
    if not files:
        raise InputError(
            f"there is nothing to validate at {path}",
            hint=f"give a release directory, or a file or folder of {', '.join(SUFFIXES)}",
        )
    return files


def read_any(file: Path) -> pa.Table:
    """A table from Parquet, JSON Lines, CSV or TSV. Raises `InputError` naming the file."""
    import pyarrow.csv as arrow_csv
    import pyarrow.json as arrow_json
    import pyarrow.parquet as pq

    suffix = file.suffix.lower()
    try:
        if suffix == ".parquet":
            return pq.read_table(file)
        if suffix in (".jsonl", ".ndjson"):
            return arrow_json.read_json(file, arrow_json.ReadOptions(block_size=BLOCK))
        if suffix in (".csv", ".tsv"):
            parsing = arrow_csv.ParseOptions(
                delimiter="\t" if suffix == ".tsv" else ",", newlines_in_values=True
            )
            return arrow_csv.read_csv(
                file,
                parse_options=parsing,
                convert_options=arrow_csv.ConvertOptions(strings_can_be_null=True),
            )
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(f"{file.name} cannot be read: {error}", place=str(file)) from None
    raise InputError(
        f"{file.name} is of no kind that can be validated", hint=f"there are: {', '.join(SUFFIXES)}"
    )


def recognise(rows: pa.Table) -> Table[Row] | None:
    """Which of our tables it looks like, if any: its key and most of its columns are there."""
    names = set(rows.column_names)
    for table in TABLES.values():
        columns = table.arrow_schema.names
        if table.key in names and len(names & set(columns)) >= LOOKS_LIKE_OURS * len(columns):
            return table
    return None


def _merge(tables: dict[str, pa.Table], ours: dict[str, Table[Row]]) -> dict[str, pa.Table]:
    merged: dict[str, pa.Table] = {}
    for name, table in ours.items():
        rows = tables[name].replace_schema_metadata(None)
        earlier = merged.get(table.name)
        merged[table.name] = (
            pa.concat_tables([earlier, rows], promote_options="permissive") if earlier is not None else rows
        )
    return merged


def _examine_foreign(name: str, rows: pa.Table) -> tuple[list[Problem], list[SuiteResult]]:
    """Empty cells, repeated rows, wrong decoding, open slots, personal data."""
    rows = _with_lists_as_text(rows)
    scalars = [c for c in rows.column_names if not pa.types.is_nested(rows.schema.field(c).type)]
    numbered = rows.select(scalars).append_column(
        ROW_NUMBER, pa.array(range(1, rows.num_rows + 1), pa.int64())
    )
    empty = [c for c in scalars if rows[c].null_count == rows.num_rows]
    key = next((c for c in KEY_COLUMNS if c in scalars), None)
    frame = Frame(name, name, ROW_NUMBER, False, Row, (), numbered)
    suite = [e for c in scalars if c not in empty for e in _expected(c, numbered.schema.field(c).type, key)]
    problems, result = run_suite(frame, {}, suite)
    return [
        *problem(name, "table_empty", [name] if not rows.num_rows else []),
        *problem(name, "column_empty", empty if rows.num_rows else []),
        *problem(name, "row_repeated", _repeated_rows(numbered, scalars)),
        *problems,
    ], [result]


def _expected(column: str, kind: pa.DataType, key: str | None) -> Iterator[Expected]:
    yield Expected("value_missing" if column == key else "cell_missing", column, "not_null")
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return
    yield Expected("garbled_cell", column, "passes")
    if column.lower() not in TEMPLATE_COLUMNS:
        yield Expected("slot_unfilled", column, "passes")
    asked = column.lower() in QUESTION_COLUMNS
    yield Expected("personal_data" if asked else "personal_data_in_cell", column, "passes")


def _with_lists_as_text(rows: pa.Table) -> pa.Table:
    """Lists of texts are read as one text; other nested columns are left as they are, unread."""
    for i, column in enumerate(rows.schema):
        if pa.types.is_list(column.type) and pa.types.is_string(column.type.value_type):
            rows = rows.set_column(i, column.name, pc.binary_join(rows[column.name], "\n"))
    return rows


def _repeated_rows(rows: pa.Table, columns: list[str]) -> list[str]:
    """The last number of each set of rows that agree in every column that is no nested one."""
    if not columns:
        return []
    groups = rows.group_by(columns).aggregate([(ROW_NUMBER, "max"), ([], "count_all")])
    found: list[str] = groups.filter(pc.greater(groups["count_all"], 1))[f"{ROW_NUMBER}_max"].to_pylist()
    return found
