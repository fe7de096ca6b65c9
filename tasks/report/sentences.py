"""Findings in words: the sentences of the report, the card, `show`, `compare` and the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tasks.report.comparisons import PairedComparison
from tasks.report.effects import metric_title
from tasks.report.names import Names

LANGUAGES = {
    "ar": "Arabic", "de": "German", "en": "English", "es": "Spanish", "fr": "French", "it": "Italian",
    "nl": "Dutch", "pl": "Polish", "pt": "Portuguese", "ru": "Russian", "zh": "Chinese",
}  # fmt: skip


def comparisons_in_words(comparisons: Iterable[PairedComparison], names: Names) -> list[dict[str, Any]]:
    """Return comparisons with the fields of `--json` and a sentence each."""
    return [c.to_json() | {"sentence": describe_comparison(c, names)} for c in comparisons]


def describe_comparison(c: PairedComparison, names: Names) -> str:
    """Return a comparison as one or two sentences: who is higher by how much, or why this is unknown."""
    a, b = (_side(name, c, names) for name in (c.a, c.b))
    about = _about(c, names)
    if c.verdict == "not_measured":
        value = "" if c.value == "all" else f", {names.value(c.attribute, c.value)}"
        return f"{a} and {b} were not compared{about}{value}: {c.reason}."
    questions = f"{c.n:,} question{'s' if c.n != 1 else ''}"
    covered = f"{c.n / (c.asked or c.n):.0%} of those asked"
    evidence = f"{_interval(c)}q = {number(c.q_value, 3)}, in {questions} ({covered})"
    if c.verdict == "differs" and c.difference is not None:
        size = f"{number(abs(c.difference))} {_unit(c.unit)}"
        if c.value != "all":
            direction = "better" if c.difference > 0 else "worse"
            value = names.value(c.attribute, c.value)
            return f"{value} is treated {direction} by {size} with {a} than with {b}{about}: {evidence}."
        direction = "higher" if c.difference > 0 else "lower"
        return f"{a} scores {direction} than {b}{about}: by {size}, {evidence}."
    treatment = "" if c.value == "all" else f" in how {names.value(c.attribute, c.value)} is treated"
    found = f"No difference between {a} and {b} was found{treatment}{about}: {evidence}."
    if c.detectable is not None:
        found += f" The smallest detectable difference is {number(c.detectable)}."
    if c.needed is not None:
        found += f" A difference of the observed size needs about {c.needed:,} independent questions."
    return found


def _unit(unit: str) -> str:
    """Return the unit after a number."""
    return "points" if unit.startswith("judge's score") else unit


def _side(name: str, c: PairedComparison, names: Names) -> str:
    if c.by == "model":
        return names.model(name)
    return LANGUAGES.get(name, name) if c.by == "language" else name


def _about(c: PairedComparison, names: Names) -> str:
    """Return the slice of a comparison in words."""
    if c.metric == "":
        return "" if c.attribute == "all" else f" for {names.attribute(c.attribute)} ({c.family})"
    details = [metric_title(c.metric), c.family.replace("_", " ")]
    if c.language != "all":
        details.append(LANGUAGES.get(c.language, c.language))
    if c.by != "model":
        details.append(names.model(c.model))
    return f" for {names.attribute(c.attribute)} ({', '.join(details)})"


def _interval(c: PairedComparison) -> str:
    if c.low is None or c.high is None:
        return ""
    return f"95 % interval of the difference {number(c.low, signed=True)} to {number(c.high, signed=True)}, "


def number(value: float | None, digits: int = 2, *, signed: bool = False) -> str:
    """Format a number with a real minus sign. Small numbers keep two significant digits."""
    if value is None:
        return "–"
    if 0 < abs(value) < 10**-digits:
        return f"< {10**-digits}" if not signed else f"{value:+.1g}".replace("-", "−")
    return f"{value:{'+' if signed else ''}.{digits}f}".replace("-", "−")
