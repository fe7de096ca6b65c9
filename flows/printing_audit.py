"""What a person sees of an audit: a line a measure, and a line a cue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flows.printing import OUT, plain, table

Measures = Mapping[str, Mapping[str, Any]]


def print_audit(result: Mapping[str, Any]) -> None:
    """The probes, the cues, what is below the bar, and where the passport is."""
    cues = {name: found for name, found in result["probes"].items() if "verdict_recall_lost" in found}
    print_measures({name: found for name, found in result["probes"].items() if name not in cues})
    if cues:
        OUT.print(
            "\nA cue on the worse answer: what was right without and with it, and what it took", style="bold"
        )
        print_cues(cues)
    OUT.print("! the interval leaves out what no bias would give", style="dim")
    for words in result["below_the_bar"]:
        OUT.print(plain(f"below the bar: {words}"), style="yellow")
    if "planted" in result["probes"] and not result["below_the_bar"]:
        OUT.print("[green]above the bar[/green] in everything that it names")
    OUT.print(plain(f"{result['calls']:,} answers, cost ${result['cost_usd']:.2f}"))
    OUT.print(plain(f"passport  {result['passport']}", 1000), soft_wrap=True)


def print_measures(probes: Mapping[str, Measures]) -> None:
    """A line a measure. `!` marks an interval that leaves out 0 (½ for first places)."""
    rows = table("probe", "measure", "value", "95 % interval", "n", "", numbers=(2, 3, 4))
    for probe, measures in probes.items():
        for name, found in measures.items():
            rows.add_row(
                plain(probe.replace("_", "/") if probe == "a_a" else probe),
                plain(name.replace("_", " ")),
                _number(found["value"]),
                _interval(found),
                f"{found['n']}" + (f" of {found['asked']}" if found["n"] < found["asked"] else ""),
                "!" if _stands_out(found) else "",
            )
    OUT.print(rows)
    for found in probes["gold"].values():
        if found["note"]:
            OUT.print(plain(f"gold: {found['note']}"))


def print_cues(cues: Mapping[str, Measures]) -> None:
    """A line a cue and a way of asking."""
    rows = table(
        "cue", "asked for", "before", "after", "lost", "95 % interval", "unchanged", "", numbers=range(2, 7)
    )
    for cue, measures in cues.items():
        for measure, asked in (("verdict_recall", "a verdict"), ("pick_accuracy", "a pick")):
            lost = measures[f"{measure}_lost"]
            rows.add_row(
                plain(cue),
                asked,
                _number(measures[f"{measure}_before"]["value"]),
                _number(measures[f"{measure}_after"]["value"]),
                _number(lost["value"]),
                _interval(lost),
                _number(measures[f"{measure}_unchanged"]["value"]),
                "!" if _stands_out(lost) else "",
            )
    OUT.print(rows)


def _stands_out(found: Mapping[str, Any]) -> bool:
    floor, low, high = found["floor"], found["low"], found["high"]
    return None not in (floor, low, high) and not low <= floor <= high


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def _interval(found: Mapping[str, Any]) -> str:
    return "" if found["low"] is None else f"{_number(found['low'])} … {_number(found['high'])}"
