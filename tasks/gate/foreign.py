"""Check datasets that are not releases: the formats of published bias benchmarks, and any other table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from math import prod
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from schemas.errors import InputError
from schemas.gate import Layout, Layouts, MatchedRows, SuiteResult
from schemas.tables import Row, Table
from tasks.checks.catalogue import Excerpts, Problem, report_rows
from tasks.checks.columns import Mask, get_column, to_mask
from tasks.files.bounded import read_parquet
from tasks.files.depth import read_json
from tasks.files.records import check_utf8
from tasks.files.retrieval_check import find_bad_rows
from tasks.files.tables import read_safely, read_table_file
from tasks.files.vocabulary import vocabulary_dir
from tasks.files.yaml import read_yaml
from tasks.gate.benchmarks import benchmark_faults, class_names, unnest
from tasks.gate.examination import TABLES, Examination, GateContext, examine, excerpt
from tasks.gate.great_expectations import Expectation, Frame, run_suite
from tasks.text.slots import parse_slots


def read_layouts(data_dir: Path) -> tuple[Layout, ...]:
    """Read the known formats from data/layouts.yaml."""
    return read_yaml(data_dir / "layouts.yaml", Layouts).layouts


def detect_layout(names: Collection[str], layouts: Iterable[Layout]) -> Layout | None:
    """Return the first format with all its columns, or `None`."""
    return next((layout for layout in layouts if set(layout.columns) <= set(names)), None)


def check_layout(
    name: str, rows: pa.Table, layout: Layout, number: str, data_dir: Path | None = None
) -> list[Problem]:
    """Check a dataset against its format.

    Args:
        name: Name of the dataset in the problems.
        rows: The rows.
        layout: The format.
        number: Column that identifies the rows in the problems.
        data_dir: The vocabulary. Default: the one in use.
    """
    numbers = rows[number].to_pylist()

    def report(check: str, mask: Mask, column: str | None = None, detail: str = "") -> list[Problem]:
        failing = [n for n, fails in zip(numbers, mask, strict=True) if fails]
        return report_rows(name, check, failing, column=column, detail=detail)

    problems = []
    for c, values in layout.one_of.items():
        known = pc.is_in(get_column(rows, c).cast(pa.string()), value_set=pa.array(values))
        unknown = ~to_mask(pc.or_(known, pc.is_null(rows[c].combine_chunks())))
        problems += report("value_unexpected", unknown, c, f"{layout.title} has {', '.join(values)}")
    for columns in layout.differ:
        problems += report("texts_alike", _equal_texts(rows, columns), None, ", ".join(columns))
    for c in layout.templates:
        problems += report("template_broken", _with_broken_slots(rows, c), c)
    if layout.sets is not None:
        problems += _incomplete_sets(name, rows, layout.sets)
    cells = list(zip(numbers, rows.drop_columns([number]).to_pylist(), strict=True))
    for fault in benchmark_faults(layout.id, cells, data_dir or vocabulary_dir()):
        problems += report_rows(
            name, fault.check, map(str, fault.rows), column=fault.column, detail=fault.detail
        )
    return problems


def _equal_texts(rows: pa.Table, columns: tuple[str, ...]) -> Mask:
    """Return the rows with equal texts in two columns, ignoring case and surrounding white space."""
    plain = {
        c: pc.utf8_lower(pc.utf8_trim_whitespace(get_column(rows, c).cast(pa.string()))) for c in columns
    }
    alike = to_mask(pa.array([False] * rows.num_rows, pa.bool_()))
    for a, b in combinations(columns, 2):
        alike = alike | to_mask(pc.equal(plain[a], plain[b]))
    return alike


def _with_broken_slots(rows: pa.Table, name: str) -> Mask:
    return to_mask(pa.array([_is_broken(text) for text in rows[name].to_pylist()], pa.bool_()))


def _is_broken(text: str | None) -> bool:
    try:
        parse_slots(text or "")
    except InputError:
        return True
    return False


def _incomplete_sets(name: str, rows: pa.Table, sets: MatchedRows) -> list[Problem]:
    """Find sets of matched rows that lack combinations of values.

    The values are those that occur in the dataset.
    """
    every = [c for c in sets.every if c in rows.column_names]
    values = [sorted(v for v in set(rows[c].to_pylist()) if v is not None) for c in every]
    expected = prod(map(len, values))
    present: dict[tuple[Any, ...], set[tuple[Any, ...]]] = defaultdict(set)
    columns = [rows[c].to_pylist() for c in (*sets.by, *every)]
    for row in zip(*columns, strict=True):
        present[row[: len(sets.by)]].add(row[len(sets.by) :])
    incomplete = {key: found for key, found in present.items() if len(_complete(found)) < expected}
    detail = f"{' × '.join(every)} has {expected} combinations"
    for key, found in list(incomplete.items())[:1]:
        missing = next((c for c in product(*values) if c not in found), None)
        detail += f"; {_joined(key)} lacks {_joined(missing)}" if missing else ""
    keys = sorted(map(_joined, incomplete))
    return report_rows(name, "set_incomplete", keys, column=", ".join(sets.by), detail=detail)


def _complete(found: Iterable[tuple[Any, ...]]) -> set[tuple[Any, ...]]:
    return {cells for cells in found if None not in cells}


def _joined(cells: Iterable[Any]) -> str:
    return " · ".join(map(str, cells))


SUFFIXES = (".parquet", ".jsonl", ".ndjson", ".json", ".csv", ".tsv")
COMPRESSED = (".gz", ".zst")
QUESTION_COLUMNS = frozenset({"question", "questions", "prompt", "text", "variant", "context", "query"})
"""Names of columns that are shown to a model. Personal data in them is an error."""
TEMPLATE_COLUMNS = frozenset({"template", "templates", "pattern", "record"})
"""Names of columns with slots that stay open on purpose."""
KEY_COLUMNS = ("id", "question_id", "query_id", "qid", "docid")
ROW_NUMBER = "row number"
"""Temporary column that identifies the rows of a dataset without ids. It starts at 1."""
MIN_SHARED_COLUMNS = 0.6
"""Minimum share of the columns of a release table for a dataset to be taken for this table."""


def examine_dataset(path: Path, facts: GateContext, layouts: Sequence[Layout] = ()) -> Examination:
    """Check a file, or a folder of files.

    Args:
        path: File or folder.
        facts: Facts to check release tables against.
        layouts: Formats to detect.

    Raises:
        InputError: If nothing can be read.
    """
    files = _find_files(path)
    tables = {
        file.relative_to(path).as_posix() if file != path else file.name: read_dataset_file(file)
        for file in files
    }
    known_tables = {name: known for name, rows in tables.items() if (known := detect_table(rows)) is not None}
    examination = examine(_merge_tables(tables, known_tables), facts)
    problems, suites = list(examination.problems), list(examination.suites)
    texts, layouts_found = dict(examination.texts), {name: table.name for name, table in known_tables.items()}
    for name, rows in tables.items():
        if name not in known_tables:
            foreign = _as_dataset(name, rows, layouts)
            foreign_problems, results = _examine_foreign(foreign)
            problems += foreign_problems
            suites += results
            texts |= _foreign_excerpts(foreign, foreign_problems)
            if foreign.layout:
                layouts_found[name] = foreign.layout.title
    for name, file in zip(tables, files, strict=True):
        problems += _retrieval_problems(name, file)
    counts = {name: rows.num_rows for name, rows in tables.items()}
    return Examination(tuple(problems), tuple(suites), counts, texts, layouts_found)


def _retrieval_problems(name: str, file: Path) -> list[Problem]:
    """Report the rows of a retrieval set that `relabel` cannot read, by reason."""
    places_by_reason: dict[str, list[str]] = {}
    for place, reason in find_bad_rows(file):
        places_by_reason.setdefault(reason, []).append(place.removeprefix(f"{file}:").strip())
    return [
        problem
        for reason, places in places_by_reason.items()
        for problem in report_rows(name, "retrieval_row", places, detail=reason)
    ]


def _find_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    files = sorted(f for f in path.rglob("*") if f.is_file() and is_table_file(f))
    if not files:
        raise InputError(
            f"{path} has no files to validate",
            hint=f"give a release or a run directory, or a file or folder of {', '.join(SUFFIXES)}",
        )
    return files


def is_table_file(file: Path) -> bool:
    """Return whether the name is that of a table. Hidden files are ignored."""
    names = [s.lower() for s in file.suffixes if s.lower() not in COMPRESSED]
    return bool(names) and names[-1] in SUFFIXES and not file.name.startswith(".")


def read_dataset_file(file: Path) -> pa.Table:
    """Read a table with distinct column names. Struct columns are flattened, and empty texts become null.

    Raises:
        InputError: If the file cannot be read or has repeated column names.
    """
    try:
        rows = _READERS.get(file.suffix.lower(), read_table_file)(file)
    except KeyError as error:
        raise InputError(f"{file.name} repeats a column name: {error}", place=str(file)) from None
    names = [name or f"column {i}" for i, name in enumerate(rows.column_names, start=1)]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"{file.name} has several columns named {repeated[0]!r}", place=str(file))
    rows = rows.rename_columns(names)
    while any(pa.types.is_struct(f.type) for f in rows.schema):
        rows = rows.flatten()
    for i, field in enumerate(rows.schema):
        if is_text_type(field.type):
            empty = pc.equal(pc.utf8_length(rows[field.name]), 0)
            rows = rows.set_column(
                i, field.name, pc.if_else(empty, pa.scalar(None, field.type), rows[field.name])
            )
    return rows


def _read_json(file: Path) -> pa.Table:
    """Read a list of objects, or one object per line."""
    check_utf8(file)
    try:
        content = read_json(file)
    except ValueError:
        return read_table_file(file)
    content = _rows_of_tasks(content)
    if isinstance(content, list) and content and all(isinstance(row, dict) for row in content):
        try:
            return pa.Table.from_pylist(content)
        except (pa.ArrowException, TypeError) as error:
            raise InputError(
                f"the rows of {file.name} have different types: {error}", place=str(file)
            ) from None
    raise InputError(
        f"{file.name} is JSON but not a list of rows",
        place=str(file),
        hint="give a list of objects, or one object per line",
    )


def _rows_of_tasks(content: Any) -> Any:
    """Return the rows of a file that lists them by task under `data`, as StereoSet does, with their task."""
    tasks = content.get("data") if isinstance(content, dict) else None
    if not isinstance(tasks, dict) or not all(isinstance(rows, list) for rows in tasks.values()):
        return content
    return [row | {"task": task} for task, rows in tasks.items() for row in rows if isinstance(row, dict)]


def _read_parquet(file: Path) -> pa.Table:
    """Read a Parquet file, which may have no rows."""
    return read_safely(file, read_parquet)


_READERS: Mapping[str, Callable[[Path], pa.Table]] = {".json": _read_json, ".parquet": _read_parquet}


def is_text_type(kind: pa.DataType) -> bool:
    """Return whether the type is text."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def detect_table(rows: pa.Table) -> Table[Row] | None:
    """Return the release table that a dataset looks like, or `None`.

    Its key and most of its columns must exist.
    """
    names = set(rows.column_names)
    for table in TABLES.values():
        columns = table.arrow_schema.names
        if table.key in names and len(names & set(columns)) >= MIN_SHARED_COLUMNS * len(columns):
            return table
    return None


def _merge_tables(tables: dict[str, pa.Table], known_tables: dict[str, Table[Row]]) -> dict[str, pa.Table]:
    merged: dict[str, pa.Table] = {}
    for name, table in known_tables.items():
        rows = tables[name].replace_schema_metadata(None)
        earlier = merged.get(table.name)
        merged[table.name] = (
            pa.concat_tables([earlier, rows], promote_options="permissive") if earlier is not None else rows
        )
    return merged


@dataclass(frozen=True)
class ForeignDataset:
    """A dataset that is not a release table, with numbered rows."""

    name: str
    rows: pa.Table
    layout: Layout | None

    @property
    def columns(self) -> list[str]:
        """Columns with one value per row."""
        return [f.name for f in self.rows.schema if f.name != ROW_NUMBER and not pa.types.is_nested(f.type)]

    @property
    def prompts(self) -> list[str]:
        """Columns that are shown to a model."""
        if self.layout is not None:
            return list(self.layout.asked)
        return [c for c in self.columns if c.lower() in QUESTION_COLUMNS]

    @property
    def templates(self) -> list[str]:
        """Columns with slots that stay open on purpose."""
        known = self.layout.templates if self.layout else ()
        return [c for c in self.columns if c in known or c.lower() in TEMPLATE_COLUMNS]


def _as_dataset(name: str, rows: pa.Table, layouts: Sequence[Layout]) -> ForeignDataset:
    """Detect the format of a dataset. Nested rows are unfolded, and class labels get their names."""
    numbered = rows.append_column(ROW_NUMBER, pa.array(range(1, rows.num_rows + 1), pa.int64()))
    for layout in layouts:
        unfolded = _unfold(rows, layout.nested) if layout.nested else None
        if unfolded is not None and set(layout.columns) <= set(unfolded.column_names):
            numbered = unfolded
            break
    found = detect_layout(numbered.column_names, layouts)
    for column, names in (found.class_labels if found else {}).items():
        position = numbered.column_names.index(column)
        texts = [_as_label(value, names) for value in numbered[column].to_pylist()]
        numbered = numbered.set_column(position, column, pa.array(texts, pa.string()))
    return ForeignDataset(name, _join_lists(numbered), found)


def _as_label(value: Any, names: tuple[str, ...]) -> str | None:
    return None if value is None else str(class_names(value, names))


def _unfold(rows: pa.Table, column: str) -> pa.Table | None:
    """Return one row per element of a nested column with the numbers of their rows, or `None` without it."""
    prefix = f"{column}."
    parts = [c for c in rows.column_names if c.startswith(prefix)]
    if column in rows.column_names and pa.types.is_list(rows.schema.field(column).type):
        records = rows.to_pylist()
    elif parts and all(pa.types.is_list(rows.schema.field(c).type) for c in parts):
        records = [
            {k: v for k, v in row.items() if k not in parts}
            | {column: {c.removeprefix(prefix): row[c] or [] for c in parts}}
            for row in rows.to_pylist()
        ]
    else:
        return None
    return pa.Table.from_pylist([row | {ROW_NUMBER: number} for number, row in unnest(records, column)])


def _join_lists(rows: pa.Table) -> pa.Table:
    """Join lists of texts to one text. Other lists are kept."""
    for i, field in enumerate(rows.schema):
        if pa.types.is_list(field.type) and is_text_type(field.type.value_type):
            rows = rows.set_column(i, field.name, pc.binary_join(rows[field.name], "\n"))
    return rows


def _examine_foreign(foreign: ForeignDataset) -> tuple[list[Problem], list[SuiteResult]]:
    """Check cells, repeated rows, decoding, slots, personal data, and the rules of the format."""
    name, rows, columns = foreign.name, foreign.rows, foreign.columns
    empty = [c for c in columns if rows[c].null_count == rows.num_rows]
    frame = Frame(name, name, ROW_NUMBER, False, Row, (), rows.select([*columns, ROW_NUMBER]))
    suite = [e for c in columns if c not in empty for e in _derive_suite(foreign, c)]
    problems, result = run_suite(frame, {}, {}, suite)
    return [
        *report_rows(name, "table_empty", [name] if not rows.num_rows else []),
        *report_rows(name, "column_empty", empty if rows.num_rows else []),
        *report_rows(name, "row_repeated", _find_repeated_rows(rows, columns)),
        *problems,
        *(check_layout(name, rows, foreign.layout, ROW_NUMBER) if foreign.layout else ()),
    ], [result]


def _derive_suite(foreign: ForeignDataset, column: str) -> Iterator[Expectation]:
    key = next((c for c in KEY_COLUMNS if c in foreign.columns), None)
    yield Expectation("value_missing" if column == key else "cell_missing", column, "not_null")
    if not is_text_type(foreign.rows.schema.field(column).type):
        return
    yield Expectation("garbled_cell", column, "passes")
    if column not in foreign.templates:
        yield Expectation("slot_unfilled", column, "passes")
    is_prompt = column in foreign.prompts
    yield Expectation("personal_data" if is_prompt else "personal_data_in_cell", column, "passes")


def _foreign_excerpts(foreign: ForeignDataset, problems: Iterable[Problem]) -> Excerpts:
    """Return excerpts of the failing column, or else of the first column that a model is shown."""
    texts: dict[tuple[str, str | None, str], str] = {}
    positions: dict[str, int] = {}
    for position, number in enumerate(foreign.rows[ROW_NUMBER].to_pylist()):
        positions.setdefault(str(number), position)
    for p in problems:
        shown = next((c for c in (p.column, *foreign.prompts) if c in foreign.columns), None)
        # Sets are named by their key, which may look like the number of a row.
        numbers = [r for r in p.rows if r in positions] if shown and p.check != "set_incomplete" else []
        cells = foreign.rows[shown].take([positions[n] for n in numbers]).to_pylist() if numbers else []
        texts |= {(p.table, p.column, n): excerpt(text) for n, text in zip(numbers, cells, strict=True)}
    return texts


def _find_repeated_rows(rows: pa.Table, columns: list[str]) -> list[str]:
    """Return the last number of each set of rows that are equal in all columns."""
    if not columns:
        return []
    groups = rows.group_by(columns).aggregate([(ROW_NUMBER, "max"), ([], "count_all")])
    last: list[str] = groups.filter(pc.greater(groups["count_all"], 1))[f"{ROW_NUMBER}_max"].to_pylist()
    return last
