"""The figures in the guide on relabelling are those that its commands print."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from flows.cli import cli
from tests.conftest import PROJECT

GUIDE = (PROJECT / "docs" / "guides" / "relabelling.md").read_text(encoding="utf-8")
SHOWN = re.compile(
    r"^```bash\n(counterfoil relabel data/examples[^\n]*)\n```(.*?)^```\n(.*?)^```$", re.M | re.S
)
"""A command on the example file, and the excerpt of its output that follows."""
EXAMPLES = [
    (command, excerpt)
    for command, between, excerpt in SHOWN.findall(GUIDE)
    if "```" not in between and not excerpt.startswith("counterfoil")
]


def test_the_guide_shows_two_results() -> None:
    assert len(EXAMPLES) == 2


@pytest.mark.parametrize(("command", "excerpt"), EXAMPLES, ids=["all", "screen"])
def test_excerpt_is_printed(
    command: str, excerpt: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(PROJECT)
    monkeypatch.setenv("COUNTERFOIL_HOME", str(tmp_path))
    arguments = [word.replace("clean.jsonl", str(tmp_path / "clean.jsonl")) for word in shlex.split(command)]
    result = CliRunner().invoke(cli, arguments[1:], catch_exceptions=False)
    assert result.exit_code == 0
    printed = {" ".join(line.split()) for line in result.stdout.splitlines()}
    assert {" ".join(line.split()) for line in excerpt.splitlines()} - {"…"} <= printed
