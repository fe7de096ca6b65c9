"""The gate's suites against DuckDB: the same checks of the same rows, in one run.

    pip install duckdb   # in an environment of your own: it is no dependency of the project
    python -m benchmarks.validate [--rows 1000000] [--quick] [--json]

DuckDB gets one query that counts, for every expectation of the suite, the rows that fail it, and reads the
same Arrow table. The target is a ratio of 8. `table_checks_s` is what Great Expectations does not do: answers
against their questions. Peak memory is of all of it together, DuckDB and the table itself included.
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


def many_responses(rows: int) -> tuple[pa.Table, pa.Table]:
    """Good responses repeated as further samples, ids of their own; and their questions."""
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
    """The number of rows that fail an expectation, as an aggregate of one SELECT."""
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


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """Wall and CPU seconds of the second of two runs."""
    for _ in range(2):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
    return time.perf_counter() - wall, time.process_time() - cpu


def compare(rows: int) -> dict[str, Any]:
    """Seconds of both, and their ratio."""
    responses, questions = many_responses(rows)
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
        raise RuntimeError(f"the rows should pass: DuckDB {failing}, suite {problems}")
    theirs = timed(lambda: database.execute(query).fetchone())
    ours = timed(lambda: run_suite(frame, {"questions": known}, {}, suite))
    tables = timed(lambda: check_responses(responses, questions, 0.02))
    return {
        "rows": rows,
        "expectations": len(suite),
        "suite_s": round(ours[0], 2),
        "suite_cpu_s": round(ours[1], 2),
        "duckdb_s": round(theirs[0], 2),
        "duckdb_cpu_s": round(theirs[1], 2),
        "ratio": round(ours[0] / theirs[0], 2),
        "cpu_ratio": round(ours[1] / theirs[1], 2),
        "table_checks_s": round(tables[0], 2),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def main() -> None:
    """Print the comparison."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=1_000_000)
    options.add_argument("--quick", action="store_true", help="100,000 rows")
    options.add_argument("--json", action="store_true")
    chosen = options.parse_args()
    result = compare(100_000 if chosen.quick else chosen.rows)
    if chosen.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:16} {value}")


if __name__ == "__main__":
    main()
