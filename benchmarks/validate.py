"""Compare the speed of the gate's suite with DuckDB on the same checks and rows.

    pip install duckdb   # in a separate environment, because the project does not depend on it
    python -m benchmarks.validate [--rows 1000000] [--quick] [--json]

DuckDB runs one query that counts the failing rows of every expectation, on the same Arrow table. The target
is a ratio of 8. `table_checks_s` is the time of the checks outside Great Expectations, which compare answers
with their questions. Peak memory includes DuckDB and the table.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from schemas.answers import RESPONSES
from schemas.question import QUESTIONS
from tasks.gate.answers import check_responses
from tasks.gate.great_expectations import Expectation, Frame, derive_suite, run_suite, split_frames
from tasks.text.faults import GARBLED, PERSONAL_DATA
from tests.material.good_tables import good_tables

PATTERNS = {"garbled_answer": GARBLED, "personal_data_in_answer": PERSONAL_DATA}


def repeat_responses(rows: int) -> tuple[pa.Table, pa.Table]:
    """Return valid responses, repeated as further samples with new ids, and their questions."""
    tables, _ = good_tables()
    few = RESPONSES.to_arrow(tables["responses"])
    times = -(-rows // few.num_rows)
    copies = np.repeat(np.arange(times), few.num_rows)[:rows]
    many = pa.concat_tables([few] * times).slice(0, rows).combine_chunks()
    sample = many["sample"].to_numpy() + copies * 10
    ids = pa.array([f"r_{i:016x}" for i in range(rows)])
    text = pa.array([f"{t} {i}" for i, t in enumerate(many["text"].to_pylist())])
    for name, values in (("id", ids), ("sample", pa.array(sample)), ("text", text)):
        many = many.set_column(many.column_names.index(name), name, values)
    return many, QUESTIONS.to_arrow(tables["questions"])


def failing_rows_in_sql(e: Expectation) -> str:
    """Return the SQL aggregate that counts the rows that fail an expectation."""
    a, c = e.arguments, f'"{e.column}"'
    if e.kind == "unique":
        return f"count({c}) - count(DISTINCT {c})"
    failing = {
        "not_null": f"{c} IS NULL",
        "in_set": f"{c} NOT IN ({', '.join(repr(v) for v in a.get('values', ('',)))})",
        "between": " OR ".join(
            f"{c} {sign} {a[end]}" for sign, end in (("<", "low"), (">", "high")) if a.get(end) is not None
        ),
        "matches": f"NOT regexp_matches({c}, '{a.get('pattern')}')",
        "lengths": f"length({c}) < {a.get('low', 0)} OR length({c}) > {a.get('high', 10**9)}",
        "json": f"NOT json_valid({c})",
        "known": f"{c} NOT IN (SELECT id FROM known)",
        "passes": f"regexp_matches({c}, '{PATTERNS.get(e.check, '')}')",
    }[e.kind]
    return f"count(*) FILTER ({failing})"


def time_second_run(work: Callable[[], Any]) -> tuple[float, float]:
    """Run twice and return the wall-clock and CPU seconds of the second run."""
    for _ in range(2):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
    return time.perf_counter() - wall, time.process_time() - cpu


def compare(rows: int) -> dict[str, Any]:
    """Return the seconds of both and their ratios.

    Raises:
        RuntimeError: If a row fails, because both must pass the same valid rows.
    """
    responses, questions = repeat_responses(rows)
    frame: Frame = next(f for f in split_frames(RESPONSES, responses) if f.name == "responses")
    known = questions["id"].combine_chunks()
    suite = [e for e in derive_suite(frame) if e.kind != "rows"]
    database = duckdb.connect()
    database.register("responses", frame.rows)
    database.register("known", pa.table({"id": known}))
    query = f"SELECT {', '.join(failing_rows_in_sql(e) for e in suite)} FROM responses"
    failing = sum(database.execute(query).fetchone() or ())
    problems, _ = run_suite(frame, {"questions": known}, {}, suite)
    if failing or problems:
        raise RuntimeError(f"valid rows failed: DuckDB counts {failing}, the suite reports {problems}")
    duckdb_times = time_second_run(lambda: database.execute(query).fetchone())
    suite_times = time_second_run(lambda: run_suite(frame, {"questions": known}, {}, suite))
    table_times = time_second_run(lambda: check_responses(responses, questions, 0.02))
    return {
        "rows": rows,
        "expectations": len(suite),
        "suite_s": round(suite_times[0], 2),
        "suite_cpu_s": round(suite_times[1], 2),
        "duckdb_s": round(duckdb_times[0], 2),
        "duckdb_cpu_s": round(duckdb_times[1], 2),
        "ratio": round(suite_times[0] / duckdb_times[0], 2),
        "cpu_ratio": round(suite_times[1] / duckdb_times[1], 2),
        "table_checks_s": round(table_times[0], 2),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--quick", action="store_true", help="100,000 rows")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    result = compare(100_000 if options.quick else options.rows)
    if options.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:16} {value}")


if __name__ == "__main__":
    main()
