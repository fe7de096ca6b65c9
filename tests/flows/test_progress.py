"""Progress: one line per stage with count, coverage, cost and time left. A log never repeats a line."""

from __future__ import annotations

import io
import json
import re
import time
from pathlib import Path

from rich.console import Console

from flows.cli.progress import TerminalProgress, clock, shorten
from flows.show import describe
from tasks.run.progress import PROGRESS, count_answers, follow_stages, read_stage, show_on, track
from tasks.run.store import run_lock

STAGES = ("ask templates", "search", "package")


def lines_of(
    run_dir: Path, *, terminal: bool, log_every_s: float = 30.0, pause: float = 0.0, term: str = "xterm"
) -> list[str]:
    """Return the output of two stages, one of them with answers of a model."""
    written = io.StringIO()
    console = Console(
        file=written, width=160, force_terminal=terminal, color_system=None, _environ={"TERM": term}
    )
    show_on(TerminalProgress(console, log_every_s=log_every_s))
    with follow_stages(run_dir, STAGES, lambda: 0.125) as enter:
        enter("ask templates")
        with track("openai:org/Small-8B@http://127.0.0.1:9/v1 answers (search)", 4) as bar:
            for usable in (True, True, True, False):
                count_answers(usable)
                bar.advance()
                time.sleep(pause)
        enter("search")
    return written.getvalue().splitlines()


def test_a_terminal_has_one_line_per_stage(tmp_path: Path) -> None:
    text = "\n".join(lines_of(tmp_path, terminal=True))
    assert "stage 1 of 3: ask templates · Small-8B answers (search)" in text
    assert "4/4" in text
    assert "coverage 75 %, $0.12" in text
    done = re.findall(r"stage \d of 3: [a-z ]+ done in \d:\d\d[^\n]*", text)
    assert [line.split(" done")[0] for line in done] == [
        "stage 1 of 3: ask templates",
        "stage 2 of 3: search",
    ]
    assert "4 answers, coverage 75 %, $0.12" in done[0]
    assert "127.0.0.1" not in text


def test_a_log_has_lines_at_intervals_with_the_time_left_and_repeats_none(tmp_path: Path) -> None:
    lines = lines_of(tmp_path, terminal=False, log_every_s=0.05, pause=0.12)
    lines += lines_of(tmp_path, terminal=False)
    assert any(
        re.search(r"Small-8B answers \(search\) \d of 4, \d:\d\d left; coverage \d+ %", x) for x in lines
    )
    first = [line for line in lines if "answers (search): 4" in line]
    assert re.match(r"0:00 stage 1 of 3: ask templates, Small-8B answers", first[0])


def test_a_terminal_that_cannot_replace_lines_shows_a_log(tmp_path: Path) -> None:
    assert lines_of(tmp_path, terminal=True, term="dumb")[0].endswith("Small-8B answers (search): 4")


def test_show_reports_the_progress_of_a_running_build(tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").write_text("")
    with run_lock(tmp_path), follow_stages(tmp_path, STAGES, lambda: 0.5) as enter:
        enter("search")
        with track("openai:x answers (holdout)", 10) as bar:
            bar.advance(3)
            count_answers(True)
            state = json.loads((tmp_path / PROGRESS).read_text())
            assert (state["stage"], state["number"], state["of"]) == ("search", 2, 3)
            shown = describe(tmp_path)
    assert shown["state"].startswith("running: stage 2 of 3, search")
    assert shown["running"]["of"] == 3
    assert "running" not in describe(tmp_path)["state"]
    assert not (tmp_path / PROGRESS).exists()


def test_a_damaged_progress_file_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / PROGRESS).write_text('{"stage": 1, "unknown": 2}')
    assert read_stage(tmp_path) is None
    (tmp_path / PROGRESS).write_text("[")
    assert read_stage(tmp_path) is None


def test_times_and_titles_are_short() -> None:
    assert (clock(59.9), clock(61), clock(3661)) == ("0:59", "1:01", "1:01:01")
    assert shorten("openai:a/b@http://h answers (search)") == "b answers (search)"
    assert shorten("relabelling rows") == "relabelling rows"


def test_a_log_names_the_bar_of_every_part_once() -> None:
    written = io.StringIO()
    shown = TerminalProgress(Console(file=written, width=100))
    outer = shown.open("relabelling rows", 1000)
    for _ in range(5):
        shown.close(shown.open("m judges", 500))
    shown.close(outer)
    shown.close(shown.open("relabelling rows", 10))
    lines = [line.split(" ", 1)[1] for line in written.getvalue().splitlines()]
    assert lines == ["relabelling rows: 1,000", "m judges: 500", "relabelling rows: 10"]
