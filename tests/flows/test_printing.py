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
