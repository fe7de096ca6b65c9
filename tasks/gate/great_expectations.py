"""Check single columns with Great Expectations. This is the only module that imports the library.

The suites are derived from the schemas. Severities are those of the catalogue, because the library counts a
run as failed even if only a warning fails.
"""

from __future__ import annotations

import gc
import html
import json
import logging
import os
import re
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache, partial
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import pyarrow as pa
import pyarrow.compute as pc

from schemas.errors import InputError
from schemas.gate import SuiteResult
from schemas.tables import Row, Table, arrow_type, canonical_json
from tasks.checks.catalogue import CHECKS, TABLE_CHECKS, Problem, report_rows
from tasks.run.memory import only_new_garbage, release_memory
from tasks.stats.fitness import FORMS
from tasks.text.faults import has_unfilled_slot, holds_personal_data, is_garbled

Kind = Literal[
    "unique", "not_null", "in_set", "between", "matches", "lengths", "json", "passes", "known", "rows"
]


@dataclass(frozen=True)
class Expectation:
    """An expectation for a column.

    `between` and `lengths` take `low` and `high`, `in_set` takes `values`, `matches` takes `pattern`, and
    `known` takes `table`. `rows` has no column: it expects that no row fails a check that uses several
    columns or tables.
    """

    check: str
    """Name of the check that fails if the expectation does."""
    column: str
    kind: Kind
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Frame:
    """The scalar columns of a table, or of the records nested in one of its columns."""

    name: str
    """`questions`, or `questions.variants`."""
    table: str
    key: str
    """Column that identifies the rows in the problems."""
    unique: bool
    """Whether the key must be unique."""
    row: type[Row]
    references: tuple[tuple[str, str], ...]
    rows: pa.Table


def split_frames(table: Table[Any], rows: pa.Table) -> Iterator[Frame]:
    """Yield the scalar columns of a table, then one frame per column of nested records."""
    nested = {
        name: inner for name, f in table.row.model_fields.items() if (inner := _nested_row_type(f.annotation))
    }
    scalars = [
        n for n in table.row.model_fields if n in rows.column_names and _is_scalar(rows.schema.field(n))
    ]
    yield Frame(table.name, table.name, table.key, True, table.row, table.references, rows.select(scalars))
    for name, inner in nested.items():
        if name in rows.column_names:
            key = f"{table.name}_id"
            yield Frame(
                f"{table.name}.{name}",
                table.name,
                key,
                False,
                inner,
                (),
                _flatten(rows, table.key, name, key),
            )


def _flatten(rows: pa.Table, key: str, column: str, key_name: str) -> pa.Table:
    lists = rows[column].combine_chunks()
    parents = pc.list_parent_indices(lists)
    inner = pc.list_flatten(lists)
    columns = {key_name: rows[key].combine_chunks().take(parents)}
    for i in range(inner.type.num_fields):
        if _is_scalar(inner.type.field(i)):
            columns[inner.type.field(i).name] = pc.struct_field(inner, [i])
    return pa.table(columns)


def _is_scalar(column: pa.Field) -> bool:
    return not pa.types.is_nested(column.type)


def _nested_row_type(annotation: Any) -> type[Row] | None:
    args = get_args(annotation)
    if get_origin(annotation) is tuple and isinstance(args[0], type) and issubclass(args[0], Row):
        return args[0]
    return None


def derive_suite(frame: Frame) -> list[Expectation]:
    """Derive the expectations of a frame from its row type, its references and `COLUMNS`."""
    suite = []
    if frame.unique:
        suite.append(Expectation("key_repeated", frame.key, "unique"))
        if frame.key == "id":
            suite.append(Expectation("id_malformed", "id", "matches", {"pattern": _id_pattern(frame.table)}))
    for column, declared in frame.row.model_fields.items():
        if column in frame.rows.column_names:
            suite += _derive_expectations(frame.name, column, declared.annotation)
    for column, target in frame.references:
        suite.append(Expectation("reference_broken", column, "known", {"table": target.split(".")[0]}))
    suite = [e for e in suite + COLUMNS.get(frame.name, []) if e.column in frame.rows.column_names]
    return suite + [Expectation(check, "", "rows") for check in TABLE_CHECKS.get(frame.name, ())]


def _derive_expectations(frame: str, column: str, annotation: Any) -> Iterator[Expectation]:
    """Yield the expectations that follow from the type of a column."""
    inner = _without_none(annotation)
    if inner is annotation:
        yield Expectation("value_missing", column, "not_null")
    if get_origin(inner) is Literal:
        yield Expectation("value_not_allowed", column, "in_set", {"values": get_args(inner)})
    elif arrow_type(inner) == pa.string() and (frame, column) not in MAY_BE_EMPTY:
        yield Expectation("text_empty", column, "lengths", {"low": 1})


def _without_none(annotation: Any) -> Any:
    if get_origin(annotation) in (Union, types.UnionType):
        (inner,) = [a for a in get_args(annotation) if a is not type(None)]
        return inner
    return annotation


def _id_pattern(table: str) -> str:
    return f"^{ID_PREFIXES.get(table, '[a-z_]+')}_[0-9a-f]{{16}}$"


ID_PREFIXES = {
    "questions": "q",
    "responses": "r",
    "judgements": "j",
    "label_history": "lc",
    "effects": "e",
    "dropped": "x",
}

MAY_BE_EMPTY = {
    ("responses", "text"),
    ("responses", "failure_message"),
    ("responses", "reading"),  # failed calls, and releases of earlier versions
    ("responses", "reading_rule"),
    ("dropped", "text"),
    ("judgements", "prompt_hash"),  # the divergence judge has no prompt
    ("judgements.scores", "reasoning"),
    ("label_history", "evidence"),
}
"""Text columns that may be empty, by frame."""


def _between(column: str, low: float, high: float | None = None) -> Expectation:
    return Expectation("out_of_range", column, "between", {"low": low, "high": high})


def _passing(check: str, *columns: str) -> list[Expectation]:
    return [Expectation(check, column, "passes") for column in columns]


LANGUAGE_TAG = r"^[a-z]{2,3}(?:-[A-Za-z0-9]{2,8})*$"

COLUMNS: dict[str, list[Expectation]] = {
    "questions": [
        _between("round", 0),
        Expectation("not_json", "composition", "json"),
        Expectation("language_malformed", "language", "matches", {"pattern": LANGUAGE_TAG}),
        *_passing("garbled_text", "template", "superdomain", "domain", "topic"),
    ],
    "questions.variants": [
        _between("index", 0),
        _between("valence", -1, 1),
        Expectation("text_too_long", "text", "lengths", {"high": 4000}),
        *_passing("garbled_text", "text"),
        *_passing("slot_unfilled", "text"),
        *_passing("personal_data", "text"),
    ],
    "questions.options": [
        _between("valence", -1, 1),
        Expectation("text_too_long", "text", "lengths", {"high": 500}),
        *_passing("garbled_text", "text"),
        *_passing("slot_unfilled", "text"),
        *_passing("personal_data", "text"),
    ],
    "responses": [
        *(_between(c, 0) for c in ("variant", "sample", "tokens_in", "tokens_out", "cost_usd", "option")),
        *_passing("garbled_answer", "text"),
        *_passing("personal_data_in_answer", "text"),
    ],
    "judgements": [
        *(_between(c, 0) for c in ("repeat", "tokens_in", "tokens_out", "cost_usd")),
        _between("p_value", 0, 1),
        Expectation("value_not_allowed", "fitness_form", "in_set", {"values": tuple(FORMS)}),
    ],
    "label_history": [_between("step", 0)],
    "dropped": [
        _between("similarity", 0, 100),
        Expectation("not_json", "record", "json"),
        *_passing("personal_data_in_dropped", "text"),
    ],
    "effects": [_between("p_value", 0, 1), _between("q_value", 0, 1), _between("n", 0)],
}
"""Expectations by frame that do not follow from the row types."""


# Running suites

FaultDetector = Callable[[pa.Array], pa.Array]
"""Returns whether each text is faulty. Null is not faulty."""

FAULTS: dict[str, FaultDetector] = {
    "garbled_text": is_garbled,
    "garbled_answer": is_garbled,
    "garbled_cell": is_garbled,
    "slot_unfilled": has_unfilled_slot,
    "personal_data": holds_personal_data,
    "personal_data_in_answer": holds_personal_data,
    "personal_data_in_cell": holds_personal_data,
    "personal_data_in_dropped": holds_personal_data,
}

EXAMPLES = 3
"""Number of failing rows in a suite result."""

FailingByCheck = Mapping[str, Sequence[str]]
"""Failing rows of the checks that use more than one column."""

_known: dict[str, pa.Array] = {}
"""Valid ids by table for the current run. Expectations are plain data and cannot hold them."""
_failing: dict[str, Sequence[str]] = {}
"""Failing rows by check for the current run."""


def run_suite(
    frame: Frame,
    known: Mapping[str, pa.Array],
    failing: FailingByCheck,
    suite: Sequence[Expectation] | None = None,
) -> tuple[list[Problem], SuiteResult]:
    """Check the rows of a frame against its suite.

    Args:
        frame: The frame.
        known: Valid ids of references by table.
        failing: Problems of other checks of this table. They become part of the result, not of the problems.
        suite: Expectations to use instead of the derived ones.
    """
    expectations = list(suite if suite is not None else derive_suite(frame))
    _known.clear()
    _known.update(known)
    _failing.clear()
    _failing.update(failing)
    problems: list[Problem] = []
    contents = []
    is_large = frame.rows.num_rows >= LARGE_FRAME
    with only_new_garbage() if is_large else nullcontext():
        for columns, group in _batches(frame, expectations):
            result_set = _run_expectations(frame.name, frame.rows.select(columns), group)
            _raise_on_crash(frame, result_set)
            problems += [p for result in result_set.results for p in _problems(frame, result)]
            contents.append(_without_lists(result_set.to_json_dict()))
            if is_large:
                del result_set
                gc.collect()  # objects of the library refer to each other, and hold the column
                release_memory()
    return problems, _suite_result(frame, contents)


LARGE_FRAME = 100_000
"""Rows from which on the columns of a frame are checked one after another."""


def _batches(
    frame: Frame, expectations: Sequence[Expectation]
) -> Iterator[tuple[list[str], list[Expectation]]]:
    """Yield columns and their expectations.

    The library holds several objects per value, so the columns of a large frame come one by one.
    """
    if frame.rows.num_rows < LARGE_FRAME or not expectations:
        yield frame.rows.column_names, list(expectations)
        return
    by_column: dict[str, list[Expectation]] = {}
    for expectation in expectations:
        by_column.setdefault(expectation.column or frame.key, []).append(expectation)
    for column, group in by_column.items():
        yield [column], group


def _run_expectations(name: str, rows: pa.Table, expectations: Sequence[Expectation]) -> Any:
    gx = great_expectations()
    suite = gx.ExpectationSuite(name=name, expectations=[_to_library(e) for e in expectations])
    return _make_batch(name, rows).validate(suite, result_format={"result_format": "COMPLETE"})


def _make_batch(name: str, rows: pa.Table) -> Any:
    """Return the rows as the library reads them."""
    asset = _context().data_sources.add_or_update_pandas("tables").add_dataframe_asset(name)
    return asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": rows.to_pandas()})


def run_own_suite(frame: Frame, name: str, expectations: Sequence[Mapping[str, Any]]) -> list[Problem]:
    """Run expectations of the user on a frame, and return a problem for each that fails.

    Raises:
        InputError: If an expectation is unknown or cannot be evaluated.
    """
    gx = great_expectations()
    batch = _make_batch(frame.name, frame.rows)
    try:
        listed = [{"kwargs": {}, **e} for e in expectations]
        suite = gx.ExpectationSuite(name=name, expectations=listed)
        refuse_skipped(name, listed, suite)
        results = batch.validate(suite, result_format={"result_format": "COMPLETE"}).results
    except InputError:
        raise
    except Exception as error:  # the library raises many kinds for an invalid suite
        raise InputError(f"the suite {name!r} cannot be run: {error}", place="validate.suites") from error
    problems = []
    for result in results:
        config = result.expectation_config
        column = config.kwargs.get("column")
        for info in _exceptions(result.exception_info):
            raise InputError(
                f"{config.type} of the suite {name!r} could not be evaluated: {info['exception_message']}",
                place=f"{frame.name}.{column}" if column else frame.name,
            )
        if not result.success:
            failing = result.result.get("unexpected_index_list") or []
            rows = frame.rows[frame.key].take(pa.array(failing, pa.int64())).to_pylist()
            problems += report_rows(
                frame.name,
                "own_expectation",
                rows or ["(table)"],
                column=column,
                detail=f"{name}: {config.type}",
            )
    return problems


def refuse_skipped(name: str, listed: Sequence[Mapping[str, Any]], suite: Any) -> None:
    """Raise `InputError` if the library skipped an expectation: it only logs those that it does not know."""
    if len(suite.expectations) == len(listed):
        return
    kept = {e.expectation_type for e in suite.expectations}
    skipped = [str(e["type"]) for e in listed if e["type"] not in kept] or [str(e["type"]) for e in listed]
    raise InputError(
        f"Great Expectations cannot use {', '.join(skipped)} of the suite {name!r}",
        place="validate.suites",
        hint="correct the type and the kwargs; the library knows the types that it ships",
    )


SLOW_IMPORTS = ("altair", "boto3", "scipy.stats")
"""Modules that the library imports at its start. They take two seconds, and few expectations need them."""


class ModuleOnFirstUse(types.ModuleType):
    """A module that is imported when one of its names is used."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} is not imported yet, and has no {name!r}")
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)


@contextmanager
def imported_on_first_use(names: Iterable[str]) -> Iterator[None]:
    """Let imports of these modules return at once. Modules that are already imported stay as they are."""
    placed = {name: ModuleOnFirstUse(name) for name in names if name not in sys.modules}
    sys.modules.update(placed)
    try:
        yield
    finally:
        for name, module in placed.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]


def great_expectations(part: str = "") -> Any:
    """Import the library, or one of its modules, on first use. Analytics and logging are turned off."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    with imported_on_first_use(SLOW_IMPORTS):
        module = import_module(f"great_expectations{part}")
    for name in ("great_expectations", "great_expectations.data_context.types.base"):  # sets its own level
        logging.getLogger(name).setLevel(logging.WARNING)
    return module


@cache
def _context() -> Any:
    """Return a context in memory without progress bars."""
    context = great_expectations().get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False, "metric_calculations": False}
    return context


@cache
def _column_expectation() -> Any:
    """Return an expectation class: the values of a column pass a check of ours, or reference a known row."""
    great_expectations()
    from great_expectations.execution_engine.pandas_execution_engine import PandasExecutionEngine
    from great_expectations.expectations.expectation import ColumnMapExpectation
    from great_expectations.expectations.metrics.map_metric_provider.column_condition_partial import (
        column_condition_partial,
    )
    from great_expectations.expectations.metrics.map_metric_provider.column_map_metric_provider import (
        ColumnMapMetricProvider,
    )

    class ColumnValuesPassCheck(ColumnMapMetricProvider):
        condition_metric_name = "column_values.pass_check"
        condition_value_keys = ("fault", "known_in")
        filter_column_isnull = False

        @column_condition_partial(engine=PandasExecutionEngine)
        def _pandas(cls, column: Any, fault: str, known_in: str, **_: Any) -> Any:  # noqa: N805
            import pandas as pd

            values = pa.array(column, type=pa.string())
            passes = _is_known(values, known_in) if known_in else pc.invert(FAULTS[fault](values))
            return pd.Series(pc.fill_null(passes, True).to_numpy(zero_copy_only=False), index=column.index)

    class ExpectColumnValuesToPassCheck(ColumnMapExpectation):
        """Expect the values of a column to pass one of the gate's own checks."""

        fault: str = ""
        known_in: str = ""
        map_metric = "column_values.pass_check"
        success_keys = ("fault", "known_in", "mostly")

    return ExpectColumnValuesToPassCheck


@cache
def _table_expectation() -> Any:
    """Return an expectation class: no row fails a given check that uses several columns or tables."""
    great_expectations()
    from great_expectations.execution_engine.pandas_execution_engine import PandasExecutionEngine
    from great_expectations.expectations.expectation import BatchExpectation
    from great_expectations.expectations.metrics.metric_provider import metric_value
    from great_expectations.expectations.metrics.table_metric_provider import TableMetricProvider

    class TableRowsFailingCheck(TableMetricProvider):
        metric_name = "table.rows_failing_check"
        value_keys = ("check",)

        @metric_value(engine=PandasExecutionEngine)
        def _pandas(cls, metric_value_kwargs: dict[str, Any], **_: Any) -> Any:  # noqa: N805
            return list(_failing.get(metric_value_kwargs["check"], ()))

    class ExpectTableRowsToPassCheck(BatchExpectation):
        """Expect every row to pass one of the gate's own checks of groups and tables."""

        check: str = ""
        metric_dependencies = ("table.rows_failing_check",)
        success_keys = ("check",)

        def _validate(self, metrics: dict[str, Any], *_: Any, **__: Any) -> dict[str, Any]:
            rows = metrics["table.rows_failing_check"]
            return {"success": not rows, "result": {"observed_value": _summarise_rows(rows)}}

    return ExpectTableRowsToPassCheck


def _summarise_rows(rows: Sequence[str]) -> str:
    examples = ", ".join(rows[:EXAMPLES]) + (", …" if len(rows) > EXAMPLES else "")
    return f"{len(rows)} failing" + (f": {examples}" if rows else "")


def _is_known(values: pa.Array, table: str) -> pa.Array:
    return pc.or_(
        pc.is_null(values), pc.is_in(values, value_set=_known.get(table, pa.array([], pa.string())))
    )


def _to_library(expectation: Expectation) -> Any:
    """Convert an expectation to one of the library, with the name, severity and description of its check."""
    gxe = great_expectations(".expectations")
    a, check = expectation.arguments, CHECKS[expectation.check]
    severity = "critical" if check.severity == "error" else "warning"
    metadata = {"meta": {"check": expectation.check}, "notes": f"{expectation.check}: {check.description}"}
    if expectation.kind == "rows":
        return _table_expectation()(
            check=expectation.check, severity=severity, description=f"never: {check.description}", **metadata
        )
    build = {
        "unique": gxe.ExpectColumnValuesToBeUnique,
        "not_null": gxe.ExpectColumnValuesToNotBeNull,
        "in_set": partial(gxe.ExpectColumnValuesToBeInSet, value_set=list(a.get("values", ()))),
        "between": partial(
            gxe.ExpectColumnValuesToBeBetween, min_value=a.get("low"), max_value=a.get("high")
        ),
        "matches": partial(gxe.ExpectColumnValuesToMatchRegex, regex=a.get("pattern")),
        "lengths": partial(
            gxe.ExpectColumnValueLengthsToBeBetween, min_value=a.get("low"), max_value=a.get("high")
        ),
        "json": gxe.ExpectColumnValuesToBeJsonParseable,
        "passes": partial(
            _column_expectation(), fault=expectation.check, description=f"never: {check.description}"
        ),
        "known": partial(
            _column_expectation(), known_in=a.get("table", ""), description=f"never: {check.description}"
        ),
    }[expectation.kind]
    return build(column=expectation.column, severity=severity, **metadata)


def _raise_on_crash(frame: Frame, result_set: Any) -> None:
    """Raise `RuntimeError` if an expectation could not be evaluated. This is a defect, never a pass."""
    for result in result_set.results:
        for info in _exceptions(result.exception_info):
            config = result.expectation_config
            raise RuntimeError(
                f"{config.type} of {frame.name}.{config.kwargs.get('column')} could not be evaluated: "
                f"{info['exception_message']}"
            )


def _exceptions(info: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    if not info:
        return []
    entries = [info] if "raised_exception" in info else list(info.values())
    return [e for e in entries if e.get("raised_exception")]


def _problems(frame: Frame, result: Any) -> list[Problem]:
    config = result.expectation_config
    if result.success or "column" not in config.kwargs:
        return []
    failing = pa.array(result.result["unexpected_index_list"], pa.int64())
    rows = frame.rows[frame.key].take(failing).to_pylist()
    return report_rows(frame.name, config.meta["check"], rows, column=config.kwargs["column"])


def _without_lists(content: dict[str, Any]) -> dict[str, Any]:
    """Remove run ids, times and long lists from the JSON of results. Equal rows give equal results."""
    content["meta"] = {}
    content["id"] = None
    for result in content["results"]:
        result["meta"] = {}
        for name in ("unexpected_list", "unexpected_index_list", "unexpected_index_query"):
            result["result"].pop(name, None)
        result["expectation_config"]["kwargs"].pop("batch_id", None)
    return content


def _suite_result(frame: Frame, contents: Sequence[dict[str, Any]]) -> SuiteResult:
    """Join the results of all columns of a frame."""
    results = [result for content in contents for result in content["results"]]
    failed = sum(not result["success"] for result in results)
    joined = contents[0] | {"results": results, "success": not failed}
    if len(contents) > 1:
        joined["statistics"] = {
            "evaluated_expectations": len(results),
            "successful_expectations": len(results) - failed,
            "unsuccessful_expectations": failed,
            "success_percent": 100 * (len(results) - failed) / len(results),
        }
    return SuiteResult(
        table=frame.name,
        rows=frame.rows.num_rows,
        expectations=len(results),
        failed=failed,
        result=canonical_json(joined),
    )


def render_page(result: SuiteResult, layout: Path) -> str:
    """Render a result with the page of the library in our layout, and remove links to other pages."""
    _column_expectation()
    _table_expectation()
    results = great_expectations(".core.expectation_validation_result")
    renderers = great_expectations(".render.renderer.page_renderer")
    views = great_expectations(".render.view")
    content = json.loads(result.result)
    for entry in content["results"]:
        entry["result"] = _escape(entry["result"])
    result_set = results.expectationSuiteValidationResultSchema.load(content)
    view = views.DefaultJinjaPageView(custom_views_directory=str(layout))
    numbers = count(1)
    view.env.filters["generate_html_element_uuid"] = lambda prefix="": f"{prefix}{next(numbers)}"
    document = renderers.ValidationResultsPageRenderer(run_info_at_end=True).render(result_set)
    page = str(view.render(document, template="offline_page.j2")).replace("Data asset: None<br>", "")
    return _OUTWARD_LINK.sub(r"\1", page)


_OUTWARD_LINK = re.compile(r'<a href="(?:\.\./)[^"]*"[^>]*>(.*?)</a>', re.DOTALL)


def _escape(value: Any) -> Any:
    if isinstance(value, str):
        return html.escape(value)
    if isinstance(value, list):
        return [_escape(v) for v in value]
    if isinstance(value, dict):
        return {k: _escape(v) for k, v in value.items()}
    return value


# Pages

LAYOUT = "data_docs"


def write_suite_pages(results: Iterable[SuiteResult], out: Path, data_dir: Path) -> list[Path]:
    """Write one page per table and an index.

    The layout is in `data/data_docs`. Equal results give equal bytes.
    """
    out.mkdir(parents=True, exist_ok=True)
    ordered = sorted(results, key=lambda r: r.table)
    pages = {page_name(r): render_page(r, data_dir / LAYOUT) for r in ordered}
    pages["index.html"] = _index(ordered, data_dir / LAYOUT)
    for name, page in pages.items():
        (out / name).write_text(page, encoding="utf-8", newline="\n")
    return [out / name for name in sorted(pages)]


def page_name(result: SuiteResult) -> str:
    """Return a file name such as `questions.variants.html`.

    Characters that are not alphanumeric become `_`.
    """
    safe = "".join(c if c.isalnum() or c in "._-" else "_" for c in result.table)
    return f"{safe}.html"


def _index(results: Iterable[SuiteResult], layout: Path) -> str:
    lines = [
        f'<tr><td><a href="{page_name(r)}">{html.escape(r.table)}</a></td><td>{r.rows}</td>'
        f"<td>{r.expectations}</td><td>{r.failed}</td></tr>"
        for r in results
    ]
    page = (layout / "index.html").read_text(encoding="utf-8")
    return page.replace("<!-- rows -->", "\n".join(lines))
