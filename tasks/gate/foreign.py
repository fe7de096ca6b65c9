"""Formats of other people's bias benchmarks: what a dataset looks like, and what must hold in one like it."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import prod
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from schemas.errors import InputError
from schemas.gate import Layout, Layouts, MatchedRows, SuiteResult
from schemas.tables import Row, Table
from tasks.checks.catalogue import Excerpts, Problem, problem
from tasks.checks.columns import Mask, column, mask_of
from tasks.files.tables import read_safely, read_table_file
from tasks.files.yaml import read_yaml
from tasks.gate.examination import TABLES, Examination, KnownVocabulary, examine, excerpt
from tasks.gate.great_expectations import Expected, Frame, run_suite
from tasks.text.slots import parse_slots


def read_layouts(data_dir: Path) -> tuple[Layout, ...]:
    """data/layouts.yaml"""
    return read_yaml(data_dir / "layouts.yaml", Layouts).layouts


def layout_of(names: Collection[str], layouts: Iterable[Layout]) -> Layout | None:
    """The first format all of whose columns are there."""
    return next((layout for layout in layouts if set(layout.columns) <= set(names)), None)


def check_layout(name: str, rows: pa.Table, layout: Layout, number: str) -> list[Problem]:
    """What is wrong with a dataset of that format. `name`: what the problems call it; `number`: the column
    with what they call a row."""
    numbers = rows[number].to_pylist()

    def told(check: str, where: Mask, column: str | None = None, detail: str = "") -> list[Problem]:
        failing = [n for n, fails in zip(numbers, where, strict=True) if fails]
        return problem(name, check, failing, column=column, detail=detail)

    problems = []
    for c, values in layout.one_of.items():
        known = pc.is_in(column(rows, c).cast(pa.string()), value_set=pa.array(values))
        unknown = ~mask_of(pc.or_(known, pc.is_null(rows[c].combine_chunks())))
        problems += told("value_unexpected", unknown, c, f"{layout.title} has: {', '.join(values)}")
    for columns in layout.differ:
        problems += told("texts_alike", _alike(rows, columns), None, ", ".join(columns))
    for c in layout.templates:
        problems += told("template_broken", _with_broken_slots(rows, c), c)
    if layout.sets is not None:
        problems += _incomplete_sets(name, rows, layout.sets)
    return problems


def _alike(rows: pa.Table, columns: tuple[str, ...]) -> Mask:
    """Rows in which two of the columns read the same, capitals and spaces aside."""
    plain = {c: pc.utf8_lower(pc.utf8_trim_whitespace(column(rows, c).cast(pa.string()))) for c in columns}
    alike = mask_of(pa.array([False] * rows.num_rows, pa.bool_()))
    for a, b in combinations(columns, 2):
        alike = alike | mask_of(pc.equal(plain[a], plain[b]))
    return alike


def _with_broken_slots(rows: pa.Table, name: str) -> Mask:
    return mask_of(pa.array([_is_broken(text) for text in rows[name].to_pylist()], pa.bool_()))


def _is_broken(text: str | None) -> bool:
    try:
        parse_slots(text or "")
    except InputError:
        return True
    return False


def _incomplete_sets(name: str, rows: pa.Table, sets: MatchedRows) -> list[Problem]:
    """Sets by the values that make them one. How many combinations there are is read off the dataset."""
    wanted = prod(pc.count_distinct(rows[c]).as_py() for c in sets.every)
    distinct = rows.group_by([*sets.by, *sets.every]).aggregate([])
    counted = distinct.group_by(list(sets.by)).aggregate([([], "count_all")])
    short = counted.filter(pc.less(counted["count_all"], wanted)).to_pylist()
    told = (" · ".join(str(row[c]) for c in sets.by) for row in short)
    detail = f"{' × '.join(sets.every)} has {wanted} combinations"
    return problem(name, "set_incomplete", told, column=", ".join(sets.by), detail=detail)


# A dataset that is not ours: Parquet, JSON or CSV, checked for what is wrong in any dataset, and in one of
# its format.


SUFFIXES = (".parquet", ".jsonl", ".ndjson", ".json", ".csv", ".tsv")
COMPRESSED = (".gz", ".zst")
QUESTION_COLUMNS = frozenset({"question", "questions", "prompt", "text", "variant", "context", "query"})
"""Columns, by name, that hold what a model is asked: there personal data is an error."""
TEMPLATE_COLUMNS = frozenset({"template", "templates", "pattern", "record"})
"""Columns whose slots are meant to be open."""
KEY_COLUMNS = ("id", "question_id", "query_id", "qid", "docid")
ROW_NUMBER = "row number"
"""From 1; what a finding names where a dataset has no ids of ours."""
LOOKS_LIKE_OURS = 0.6
"""Share of a table's columns that have to be there for it to be taken for that table."""


def examine_dataset(path: Path, knowledge: KnownVocabulary, layouts: Sequence[Layout] = ()) -> Examination:
    """One file, or a folder of them. `layouts`: formats to recognise. Raises `InputError` where nothing can
    be read."""
    files = _files(path)
    tables = {
        file.relative_to(path).as_posix() if file != path else file.name: read_any(file) for file in files
    }
    ours = {name: known for name, rows in tables.items() if (known := recognise(rows)) is not None}
    found = examine(_merge(tables, ours), knowledge)
    problems, suites = list(found.problems), list(found.suites)
    texts, looks_like = dict(found.texts), {name: table.name for name, table in ours.items()}
    for name, rows in tables.items():
        if name not in ours:
            foreign = Foreign(name, _numbered(rows), layout_of(rows.column_names, layouts))
            more, results = _examine_foreign(foreign)
            problems += more
            suites += results
            texts |= _excerpts(foreign, more)
            if foreign.layout:
                looks_like[name] = foreign.layout.title
    counted = {name: rows.num_rows for name, rows in tables.items()}
    return Examination(tuple(problems), tuple(suites), counted, texts, looks_like)


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    files = sorted(f for f in path.rglob("*") if f.is_file() and is_table_file(f))
    if not files:
        raise InputError(
            f"there is nothing to validate at {path}",
            hint=f"give a release or a run directory, or a file or folder of {', '.join(SUFFIXES)}",
        )
    return files


def is_table_file(file: Path) -> bool:
    """By its name; hidden files are none."""
    names = [s.lower() for s in file.suffixes if s.lower() not in COMPRESSED]
    return bool(names) and names[-1] in SUFFIXES and not file.name.startswith(".")


def read_any(file: Path) -> pa.Table:
    """A table whose columns have names of their own; a text that is empty is an empty cell. Raises
    `InputError` naming the file."""
    try:
        rows = _READERS.get(file.suffix.lower(), read_table_file)(file)
    except KeyError as error:
        raise InputError(f"{file.name} has two columns of one name: {error}", place=str(file)) from None
    names = [name or f"column {i}" for i, name in enumerate(rows.column_names, start=1)]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"{file.name} has several columns {repeated[0]!r}", place=str(file))
    rows = rows.rename_columns(names)
    while any(pa.types.is_struct(f.type) for f in rows.schema):
        rows = rows.flatten()
    for i, field in enumerate(rows.schema):
        if is_text(field.type):
            empty = pc.equal(pc.utf8_length(rows[field.name]), 0)
            rows = rows.set_column(
                i, field.name, pc.if_else(empty, pa.scalar(None, field.type), rows[field.name])
            )
    return rows


def _rows_of_json(file: Path) -> pa.Table:
    """A list of objects, or one object a line."""
    try:
        content = json.loads(file.read_bytes())
    except ValueError:
        return read_table_file(file)
    if isinstance(content, list) and content and all(isinstance(row, dict) for row in content):
        try:
            return pa.Table.from_pylist(content)
        except (pa.ArrowException, TypeError) as error:
            raise InputError(
                f"the rows of {file.name} are not of one kind: {error}", place=str(file)
            ) from None
    raise InputError(
        f"{file.name} is JSON, but not rows",
        place=str(file),
        hint="give a list of objects, or one object a line",
    )


def _rows_of_parquet(file: Path) -> pa.Table:
    """A file without rows tells its columns."""
    return read_safely(file, pq.read_table)


_READERS: Mapping[str, Callable[[Path], pa.Table]] = {".json": _rows_of_json, ".parquet": _rows_of_parquet}


def is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


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


@dataclass(frozen=True)
class Foreign:
    """A dataset that is not ours, its rows numbered, and what it looks like."""

    name: str
    rows: pa.Table
    layout: Layout | None

    @property
    def columns(self) -> list[str]:
        """Those that hold one value a row."""
        return [f.name for f in self.rows.schema if f.name != ROW_NUMBER and not pa.types.is_nested(f.type)]

    @property
    def asked(self) -> list[str]:
        """Columns that hold what a model is asked."""
        if self.layout is not None:
            return list(self.layout.asked)
        return [c for c in self.columns if c.lower() in QUESTION_COLUMNS]

    @property
    def templates(self) -> list[str]:
        """Columns whose slots are meant to be open."""
        known = self.layout.templates if self.layout else ()
        return [c for c in self.columns if c in known or c.lower() in TEMPLATE_COLUMNS]


def _numbered(rows: pa.Table) -> pa.Table:
    """With a number for every row, and lists of texts as one text; other lists are left as they are."""
    for i, field in enumerate(rows.schema):
        if pa.types.is_list(field.type) and is_text(field.type.value_type):
            rows = rows.set_column(i, field.name, pc.binary_join(rows[field.name], "\n"))
    return rows.append_column(ROW_NUMBER, pa.array(range(1, rows.num_rows + 1), pa.int64()))


def _examine_foreign(foreign: Foreign) -> tuple[list[Problem], list[SuiteResult]]:
    """Empty cells, repeated rows, wrong decoding, open slots, personal data; and what its format demands."""
    name, rows, columns = foreign.name, foreign.rows, foreign.columns
    empty = [c for c in columns if rows[c].null_count == rows.num_rows]
    frame = Frame(name, name, ROW_NUMBER, False, Row, (), rows.select([*columns, ROW_NUMBER]))
    suite = [e for c in columns if c not in empty for e in _expected(foreign, c)]
    problems, result = run_suite(frame, {}, {}, suite)
    return [
        *problem(name, "table_empty", [name] if not rows.num_rows else []),
        *problem(name, "column_empty", empty if rows.num_rows else []),
        *problem(name, "row_repeated", _repeated_rows(rows, columns)),
        *problems,
        *(check_layout(name, rows, foreign.layout, ROW_NUMBER) if foreign.layout else ()),
    ], [result]


def _expected(foreign: Foreign, column: str) -> Iterator[Expected]:
    key = next((c for c in KEY_COLUMNS if c in foreign.columns), None)
    yield Expected("value_missing" if column == key else "cell_missing", column, "not_null")
    if not is_text(foreign.rows.schema.field(column).type):
        return
    yield Expected("garbled_cell", column, "passes")
    if column not in foreign.templates:
        yield Expected("slot_unfilled", column, "passes")
    asked = column in foreign.asked
    yield Expected("personal_data" if asked else "personal_data_in_cell", column, "passes")


def _excerpts(foreign: Foreign, problems: Iterable[Problem]) -> Excerpts:
    """What the failing rows say, in the column that fails or in the first that a model is asked."""
    texts: dict[tuple[str, str | None, str], str] = {}
    for p in problems:
        shown = next((c for c in (p.column, *foreign.asked) if c in foreign.columns), None)
        numbers = [row for row in p.rows if row.isdecimal()] if shown else []
        said = foreign.rows[shown].take([int(n) - 1 for n in numbers]).to_pylist() if numbers else []
        texts |= {(p.table, p.column, n): excerpt(text) for n, text in zip(numbers, said, strict=True)}
    return texts


def _repeated_rows(rows: pa.Table, columns: list[str]) -> list[str]:
    """The last number of each set of rows that agree in every column that is no nested one."""
    if not columns:
        return []
    groups = rows.group_by(columns).aggregate([(ROW_NUMBER, "max"), ([], "count_all")])
    found: list[str] = groups.filter(pc.greater(groups["count_all"], 1))[f"{ROW_NUMBER}_max"].to_pylist()
    return found
