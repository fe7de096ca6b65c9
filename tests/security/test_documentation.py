"""The tests that docs/security.md names exist."""

from __future__ import annotations

import re

from tests.conftest import PROJECT

PAGE = (PROJECT / "docs" / "security.md").read_text(encoding="utf-8")
TESTS = {
    name
    for path in (PROJECT / "tests").rglob("test_*.py")
    for name in re.findall(r"def (test_\w+)", path.read_text(encoding="utf-8"))
} | {
    f"test_{kind}_is_read_or_refused"
    for kind in ("recipe", "yaml", "manifest", "retrieval_file", "score_answer")
}
FILES = {path.relative_to(PROJECT / "tests").as_posix() for path in (PROJECT / "tests").rglob("*")}


def test_every_named_test_exists() -> None:
    named = set(re.findall(r"`(?:tests/)?([\w/]*test_\w+(?:\.py)?)`", PAGE))
    assert len(named) > 60
    for name in named:
        if name.endswith(".py"):
            assert name in FILES or f"security/{name}" in FILES, name
        else:
            assert name in TESTS, name


def test_every_line_of_the_table_has_a_test() -> None:
    table = PAGE.split("## The table of faults")[1].split("\n## ")[0]
    rows = [line.split("|")[1:-1] for line in table.splitlines() if re.match(r"\| \d+ \|", line)]
    assert {int(row[0]) for row in rows} == set(range(1, 16))
    for number, _, _, tests in rows:
        assert re.findall(r"`test_\w+`", tests), number
