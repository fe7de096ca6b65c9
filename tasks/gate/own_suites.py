"""Great Expectations suites of the user: JSON files in the library's own format, one per table."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from schemas.errors import InputError
from tasks.checks.catalogue import Problem
from tasks.gate.examination import TABLES
from tasks.gate.great_expectations import run_own_suite, split_frames

MAX_SUITE_BYTES = 4 << 20


def read_own_suites(paths: Sequence[str]) -> list[dict[str, Any]]:
    """Read the suites of a recipe: `{"name": …, "meta": {"table": "questions"}, "expectations": […]}`.

    Without `meta.table`, the name of the file is that of the table.

    Raises:
        InputError: If a file is missing, is not a suite, or names no table of a release.
    """
    suites = []
    for text in paths:
        path = Path(text)
        try:
            if path.stat().st_size > MAX_SUITE_BYTES:
                raise InputError(f"the suite is larger than {MAX_SUITE_BYTES >> 20} MiB", place=text)
            suite = json.loads(path.read_text(encoding="utf-8"))
        except OSError:
            raise InputError(
                f"there is no suite {text}",
                place="validate.suites",
                hint="paths are relative to the working directory",
            ) from None
        except (ValueError, RecursionError) as error:
            raise InputError(f"the suite is not valid JSON: {error}", place=text) from None
        suites.append(_checked(suite, path))
    return suites


def _checked(suite: Any, path: Path) -> dict[str, Any]:
    expectations = suite.get("expectations") if isinstance(suite, dict) else None
    if not isinstance(expectations, list) or not expectations:
        raise InputError(
            "the suite has no expectations", place=str(path), hint="save one with `suite.save()`"
        )
    for number, expectation in enumerate(expectations, start=1):
        if not isinstance(expectation, dict) or not isinstance(expectation.get("type"), str):
            raise InputError(f"expectation {number} has no type", place=str(path))
        _refuse_code(expectation, f"{path}: expectation {number}")
    meta = suite.get("meta")
    table = (meta.get("table") if isinstance(meta, dict) else None) or path.stem
    if not isinstance(table, str) or table.partition(".")[0] not in TABLES:
        raise InputError(
            f"the suite is for the table {table!r}, which no release has",
            place=str(path),
            hint=f"name one of {', '.join(TABLES)} under `meta.table`",
        )
    return {"name": str(suite.get("name") or path.stem), "table": table, "expectations": expectations}


_SAFE_NODES = (
    *(ast.Expression, ast.BoolOp, ast.boolop, ast.UnaryOp, ast.unaryop, ast.Compare, ast.cmpop, ast.BinOp),
    *(ast.operator, ast.Name, ast.Load, ast.Constant, ast.List, ast.Tuple),
)
"""Parts of a condition that compare columns with values. Attributes and calls could run any program."""
_QUOTED_COLUMN = re.compile(r"`[^`]*`")


def _refuse_code(value: Any, place: str) -> None:
    """Raise `InputError` if a part of an expectation could run a program or open an address.

    The library hands a `row_condition` to `pandas.DataFrame.query`, which reaches modules with `@`.
    """
    if isinstance(value, list):
        for part in value:
            _refuse_code(part, place)
    if not isinstance(value, dict):
        return
    condition = value.get("row_condition")
    if isinstance(condition, str) and value.get("condition_parser", "pandas") in ("pandas", None):
        try:
            nodes = ast.walk(ast.parse(_QUOTED_COLUMN.sub("column", condition).strip(), mode="eval"))
            is_safe = all(isinstance(node, _SAFE_NODES) for node in nodes)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            is_safe = False
        if not is_safe:
            raise InputError(
                "the row_condition does more than to compare columns with values",
                place=place,
                hint='use comparisons with and, or, not and in, such as `family == "open" and rank > 3`',
            )
    reference = value.get("$ref", "#")
    if not (isinstance(reference, str) and reference.startswith("#")):
        raise InputError(
            "the schema refers to another document", place=place, hint="write it out in the suite"
        )
    for part in value.values():
        _refuse_code(part, place)


def check_own_suites(suites: Iterable[Mapping[str, Any]], tables: Mapping[str, pa.Table]) -> list[Problem]:
    """Run the suites on the tables that they name.

    Raises:
        InputError: If an expectation cannot be evaluated, or a column is missing.
    """
    problems: list[Problem] = []
    for suite in suites:
        table = suite["table"]
        name = table.partition(".")[0]
        frames = list(split_frames(TABLES[name], tables[name])) if name in tables else []
        frame = next((frame for frame in frames if frame.name == table), None)
        if frame is None:
            raise InputError(
                f"the suite {suite['name']!r} is for {table!r}, which this release does not have",
                place="validate.suites",
            )
        problems += run_own_suite(frame, suite["name"], suite["expectations"])
    return problems
