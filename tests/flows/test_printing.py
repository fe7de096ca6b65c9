"""Foreign text is shown as plain text in the terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from flows.cli import printing as printing
from flows.cli.plain import plain
from flows.cli.progress import TerminalProgress


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    written = io.StringIO()
    monkeypatch.setattr(printing, "OUT", Console(file=written, width=120, force_terminal=True))
    return written


@pytest.mark.parametrize(
    "hostile",
    [
        "\x1b]0;owned\x07",
        "\x1b[2J",
        "a\x00b",
        "\u202etxt.exe",
        "[red]not markup[/red]",
        "[link=file:///x]y[/]",
    ],
    ids=["title", "clear", "nul", "right-to-left", "colour", "link"],
)
def test_control_codes_and_markup_are_shown_not_obeyed(hostile: str, screen: io.StringIO) -> None:
    printing.OUT.print(plain(hostile))
    shown = screen.getvalue()
    for code in ("\x1b]0", "\x1b[2J", "\x00", "\u202e", "\x1b]8"):
        assert code not in shown
    assert "red" not in hostile or "[red]" in shown


def test_long_text_is_cut(screen: io.StringIO) -> None:
    assert len(plain("word " * 1000, 50)) == 50


def test_metric_without_a_value_is_a_dash(screen: io.StringIO) -> None:
    printing.print_metrics({"tau_c_sai": {"value": None, "low": None, "high": None, "n": 0}, "invalid": 3})
    assert "–" in screen.getvalue()


def test_nested_metrics_keep_their_names(screen: io.StringIO) -> None:
    printing.print_metrics({"gap": {"default": {"Black-white": {"value": 0.97, "low": 0.5, "high": 1.4}}}})
    assert "gap default Black-white" in screen.getvalue()
    assert "0.500 … 1.400" in screen.getvalue()


def test_funnel_shows_every_stage(screen: io.StringIO) -> None:
    printing.print_funnel({"respond": {"in": 1234, "kept": 1230, "dropped": 0, "failed": 4}})
    assert "1,234" in screen.getvalue()


def test_messages_during_a_progress_bar_are_plain_text() -> None:
    written = io.StringIO()
    terminal = TerminalProgress(Console(file=written, width=120, force_terminal=True))
    bar = terminal.open("asking", 3)
    terminal.say("[red]gone[/red]\x1b]0;owned\x07")
    bar.advance(3)
    terminal.close(bar)
    assert "[red]gone[/red]" in written.getvalue()
    assert "\x1b]0" not in written.getvalue()


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.4, "0 s"), (119, "119 s"), (508, "8 min"), (6864, "1 h 54 min"), (7199, "2 h 0 min")],
)
def test_long_times_are_shown_in_hours_and_minutes(seconds: float, shown: str) -> None:
    assert printing.format_duration(seconds) == shown


def test_costs_have_one_line_per_model(screen: io.StringIO) -> None:
    cost = {"calls": 1288, "tokens_in": 34662, "tokens_out": 5760, "cost_usd": 0.25}
    printing.print_costs({"openai:m@http://localhost:8000/v1": cost, "unused": dict.fromkeys(cost, 0)})
    lines = screen.getvalue().split("\n")
    assert any("openai:m@http://localhost:8000/v1" in line and "1,288" in line for line in lines)
    assert "unused" not in screen.getvalue()
