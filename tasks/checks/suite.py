"""Great Expectations: the only door to it. Puts a frame's suite to its rows and reads the answer.

Severity is ours: the library calls a run failed when a mere warning fails, so its own verdict is not used.
"""

from __future__ import annotations

import html
import json
import logging
import os
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from schemas.ids import canonical_json
from schemas.validation import SuiteResult
from tasks.checks.catalogue import CHECKS
from tasks.checks.encoding import is_garbled
from tasks.checks.expected import Expected, Frame, expected_of
from tasks.checks.findings import Problem, problem
from tasks.checks.placeholders import has_unfilled_slot
from tasks.checks.privacy import holds_personal_data

Fault = Callable[[pa.Array], pa.Array]
"""Which texts are at fault; null is not."""

FAULTS: dict[str, Fault] = {
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

Failing = Mapping[str, Sequence[str]]
"""Failing rows by check, of the checks that look at more than one column."""

_known: dict[str, pa.Array] = {}
"""Ids by table, for the run in hand: expectations are plain data and cannot carry them."""
_failing: dict[str, Sequence[str]] = {}


def run_suite(
    frame: Frame, known: Mapping[str, pa.Array], failing: Failing, suite: Sequence[Expected] | None = None
) -> tuple[list[Problem], SuiteResult]:
    """Put the frame's suite (or another one) to its rows. `known` holds the ids that references may name,
    `failing` what the other checks found in this table: it is in the result, not among the problems."""
    gx = great_expectations()
    expected = list(suite if suite is not None else expected_of(frame))
    batch = (
        _context()
        .data_sources.add_or_update_pandas("tables")
        .add_dataframe_asset(frame.name)
        .add_batch_definition_whole_dataframe("all")
        .get_batch({"dataframe": frame.rows.to_pandas()})
    )
    _known.clear()
    _known.update(known)
    _failing.clear()
    _failing.update(failing)
    answer = batch.validate(
        gx.ExpectationSuite(name=frame.name, expectations=[_expectation(e) for e in expected]),
        result_format={"result_format": "COMPLETE"},
    )
    _refuse_crashes(frame, answer)
    problems = [p for result in answer.results for p in _problems(frame, result)]
    return problems, _suite_result(frame, answer)


def great_expectations(part: str = "") -> Any:
    """The library or a part of it, imported when it is first needed: no analytics, no chatter."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    module = import_module(f"great_expectations{part}")
    for name in ("great_expectations", "great_expectations.data_context.types.base"):  # sets its own level
        logging.getLogger(name).setLevel(logging.WARNING)
    return module


@cache
def _context() -> Any:
    """A context that lives in memory and shows no progress bars."""
    context = great_expectations().get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False, "metric_calculations": False}
    return context


@cache
def _column_expectation() -> Any:
    """Our own expectation: the values of a column pass one of our checks, or name a known row."""
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
            passes = _names_known(values, known_in) if known_in else pc.invert(FAULTS[fault](values))
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
    """Our own expectation of whole rows: none fails one of our checks that look at groups or other tables."""
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
            return {"success": not rows, "result": {"observed_value": _told(rows)}}

    return ExpectTableRowsToPassCheck


def _told(rows: Sequence[str]) -> str:
    examples = ", ".join(rows[:EXAMPLES]) + (", …" if len(rows) > EXAMPLES else "")
    return f"{len(rows)} failing" + (f": {examples}" if rows else "")


def _names_known(values: pa.Array, table: str) -> pa.Array:
    return pc.or_(
        pc.is_null(values), pc.is_in(values, value_set=_known.get(table, pa.array([], pa.string())))
    )


def _expectation(expected: Expected) -> Any:
    """The library's expectation for one of ours, with our check's name, severity and sentence."""
    gxe = great_expectations(".expectations")
    a, check = expected.arguments, CHECKS[expected.check]
    severity = "critical" if check.severity == "error" else "warning"
    noted = {"meta": {"check": expected.check}, "notes": f"{expected.check}: {check.says}"}
    if expected.kind == "rows":
        return _table_expectation()(
            check=expected.check, severity=severity, description=f"never: {check.says}", **noted
        )
    make = {
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
        "passes": partial(_column_expectation(), fault=expected.check, description=f"never: {check.says}"),
        "known": partial(
            _column_expectation(), known_in=a.get("table", ""), description=f"never: {check.says}"
        ),
    }[expected.kind]
    return make(column=expected.column, severity=severity, **noted)


def _refuse_crashes(frame: Frame, answer: Any) -> None:
    """An expectation that could not be evaluated is a defect of ours, never a pass."""
    for result in answer.results:
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
    return problem(frame.name, config.meta["check"], rows, column=config.kwargs["column"])


def _suite_result(frame: Frame, answer: Any) -> SuiteResult:
    """The answer as JSON that is the same whenever the rows are: no run id, no time, no long lists."""
    content = answer.to_json_dict()
    content["meta"] = {}
    content["id"] = None
    for result in content["results"]:
        result["meta"] = {}
        for name in ("unexpected_list", "unexpected_index_list", "unexpected_index_query"):
            result["result"].pop(name, None)
        result["expectation_config"]["kwargs"].pop("batch_id", None)
    return SuiteResult(
        table=frame.name,
        rows=frame.rows.num_rows,
        expectations=len(content["results"]),
        failed=sum(not r["success"] for r in content["results"]),
        result=canonical_json(content),
    )


def render_page(result: SuiteResult, layout: Path) -> str:
    """The library's own page of a result, in our layout, without links that lead out of it.

    The library's tables print values as they are, so these are escaped before it sees them.
    """
    _column_expectation()
    _table_expectation()
    results = great_expectations(".core.expectation_validation_result")
    renderers = great_expectations(".render.renderer.page_renderer")
    views = great_expectations(".render.view")
    content = json.loads(result.result)
    for entry in content["results"]:
        entry["result"] = _escaped(entry["result"])
    answer = results.expectationSuiteValidationResultSchema.load(content)
    view = views.DefaultJinjaPageView(custom_views_directory=str(layout))
    numbers = count(1)
    view.env.filters["generate_html_element_uuid"] = lambda prefix="": f"{prefix}{next(numbers)}"
    document = renderers.ValidationResultsPageRenderer(run_info_at_end=True).render(answer)
    page = str(view.render(document, template="offline_page.j2")).replace("Data asset: None<br>", "")
    return _OUTWARD_LINK.sub(r"\1", page)


_OUTWARD_LINK = re.compile(r'<a href="(?:\.\./)[^"]*"[^>]*>(.*?)</a>', re.DOTALL)


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        return html.escape(value)
    if isinstance(value, list):
        return [_escaped(v) for v in value]
    if isinstance(value, dict):
        return {k: _escaped(v) for k, v in value.items()}
    return value
