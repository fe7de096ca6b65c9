"""What a person sees on the terminal. Text from outside is printed as text: no markup, no control codes."""

from __future__ import annotations

import json
import re
import sys
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from schemas.gate import Validation
from schemas.options import RecipeOptions
from schemas.recipe import Recipe
from tasks.run.progress import show_on

OUT = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
"""Wraps at words on a terminal, never in a file or pipe."""
ERR = Console(stderr=True, highlight=False)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def plain(text: str, limit: int = 300) -> Text:
    """Untrusted text, shortened, without control characters, never read as markup."""
    shown = " ".join(_CONTROL.sub("�", text).split())
    return Text(shown if len(shown) <= limit else shown[: limit - 1] + "…")


def print_json(result: Any) -> None:
    """Print exactly one JSON object to stdout."""
    if isinstance(result, Validation):
        data: Any = result.summary()
    else:
        data = result.model_dump(mode="json") if isinstance(result, BaseModel) else result
    sys.stdout.write(json.dumps(data, ensure_ascii=False, default=str) + "\n")


class _Bar:
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self.progress, self.task = progress, task

    def advance(self, steps: int = 1) -> None:
        self.progress.advance(self.task, steps)


class _Terminal:
    """Bars on stderr; plain lines where stderr is no terminal."""

    def __init__(self) -> None:
        self.progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=ERR,
            transient=not ERR.is_terminal,
            disable=not ERR.is_terminal,
        )
        self.open_bars = 0

    def open(self, title: str, total: int | None) -> _Bar:
        if not ERR.is_terminal:
            ERR.print(f"{title}: {total}" if total is not None else title, markup=False)
        if self.open_bars == 0:
            self.progress.start()
        self.open_bars += 1
        return _Bar(self.progress, self.progress.add_task(escape(title), total=total))

    def say(self, line: str) -> None:
        self.progress.console.print(plain(line), soft_wrap=not ERR.is_terminal)

    def close(self, bar: Any) -> None:
        self.progress.stop_task(bar.task)
        self.open_bars -= 1
        if self.open_bars == 0:
            self.progress.stop()
            for task in list(self.progress.task_ids):
                self.progress.remove_task(task)


def show_progress() -> None:
    """From now on, long work shows bars on stderr."""
    show_on(_Terminal())


def table(*columns: str, numbers: Sequence[int] = ()) -> Table:
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for i, column in enumerate(columns):
        made.add_column(column, justify="right" if i in numbers else "left")
    return made


def print_plan(plan: Any) -> None:
    """The estimate as a table: what will be asked, what it may cost, and what at most."""
    rows = table("stage", "rows", "calls", "tokens in", "tokens out", "USD", numbers=range(1, 6))
    for s in plan.stages:
        rows.add_row(
            s.name,
            f"{s.rows:,}",
            f"{s.calls:,}",
            f"{s.tokens_in:,}",
            f"{s.tokens_out:,}",
            f"{s.cost_usd:.4f}",
        )
    OUT.print(rows)
    OUT.print(f"\nabout ${plan.total_cost_usd:.2f} of a budget of ${plan.budget_usd:.2f}")
    for model, usd in sorted(plan.cost_by_model.items()):
        OUT.print(f"  {escape(model)}: ${usd:.4f}")
    if plan.highest_cost_usd > plan.total_cost_usd:
        OUT.print(
            f"${plan.highest_cost_usd:.2f} were everything that is searched for accepted, and every verdict "
            "asked for twice"
        )
    if plan.highest_cost_usd > plan.budget_usd >= plan.total_cost_usd:
        OUT.print("should the budget end before the build, it stops, and goes on with a higher one")
    cached = f"{plan.cached_calls:,} of the first {plan.known_calls:,} calls are in the cache already"
    OUT.print(cached)
    for place in plan.clear_of:
        OUT.print(f"stays clear of {escape(place)}")
    if plan.reviews:
        OUT.print(f"waits until people have settled about {plan.reviews:,} accepted questions")
    for attribute, effect in sorted(plan.smallest_detectable_effect.items()):
        OUT.print(f"smallest detectable effect, {attribute}: {effect:.2f} standard deviations")


def print_summary(result: Mapping[str, Any]) -> None:
    """What was made, the funnel, three example groups, where it is and how to load it."""
    from flows.show import example_groups

    release = Path(result["release"])
    OUT.print(f"\n[bold]{escape(release.parent.name)} {result['version']}[/bold]  is ready\n")
    print_funnel(result["counts"])
    calls = result["calls"]
    OUT.print(
        f"\ncalls sent {calls['sent']:,}, from the cache {calls['cached']:,}, cost ${result['cost_usd']:.2f}"
    )
    for kind, question, answers in example_groups(release, 3):
        OUT.print()
        OUT.print(Text(f"• {kind}: ", style="bold") + plain(question))
        for value, answer in answers:
            OUT.print(Text(f"    {value}: ", style="cyan") + plain(answer, 140))
    report = release / "report.html"
    OUT.print(f"\nrelease   {escape(str(release))}", soft_wrap=True)
    OUT.print(f"report    {escape(str(report))}", soft_wrap=True)
    load = f'datasets.load_dataset("{escape(str(release))}", "questions")'
    OUT.print(f"load      [green]{load}[/green]", soft_wrap=True)


def print_funnel(counts: Mapping[str, Mapping[str, int]]) -> None:
    """One line a stage; every line adds up."""
    rows = table("stage", "in", "kept", "dropped", "failed", numbers=range(1, 5))
    for stage, c in counts.items():
        rows.add_row(stage, f"{c['in']:,}", f"{c['kept']:,}", f"{c['dropped']:,}", f"{c['failed']:,}")
    OUT.print(rows)


def print_figures(result: Mapping[str, Any]) -> None:
    """Names and figures, one a line."""
    rows = table("", "", numbers=(1,))
    for name, value in result.items():
        shown = f"{value:,.4g}" if isinstance(value, float) else str(value)
        rows.add_row(name.replace("_", " "), plain(shown))
    OUT.print(rows)


def print_metrics(result: Mapping[str, Any]) -> None:
    """Metrics with their intervals; nested ones with their keys."""
    rows = table("metric", "value", "95 % interval", "n", numbers=(1, 2, 3))
    for name, value in _flatten(result):
        if isinstance(value, Mapping):
            low, high = value.get("low"), value.get("high")
            interval = "" if low is None or high is None else f"{low:.3f} … {high:.3f}"
            shown = "–" if value["value"] is None else f"{value['value']:.3f}"
            rows.add_row(plain(name), shown, interval, str(value.get("n", "")))
        else:
            rows.add_row(plain(name), f"{value:.4g}" if isinstance(value, float) else str(value), "", "")
    OUT.print(rows)


def _flatten(result: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    lines: list[tuple[str, Any]] = []
    for name, value in result.items():
        if isinstance(value, Mapping) and "value" not in value:
            lines += _flatten(value, f"{prefix}{name} ")
        else:
            lines.append((prefix + name, value))
    return lines


def print_relabelling(result: Mapping[str, Any]) -> None:
    """The counts of a relabelled file, its report, and its quality where the truth was given."""
    counts = {name: value for name, value in result.items() if isinstance(value, int)}
    print_figures(counts)
    report = result["report"]
    OUT.print("\nwhy", style="bold")
    print_figures(report["by_reason"])
    notes = {
        "evidence (characters)": report["evidence_characters"] if report["by_reason"] else {},
        "order flips": report["order_flips"],
        **{f"cost of {judge}": cost for judge, cost in report["cost"].items()},
        **{f"agreement {pair}": {"kappa": votes["kappa"]} for pair, votes in report["agreement"].items()},
        **({"screen": report["screen"]} if report["screen"]["spared"] else {}),
        **{name: result[name] for name in ("audit", "lost") if result.get(name)},
        **({"held out": point["held_out"]} if (point := result.get("operating_point")) else {}),
    }
    told = {name: value for name, value in notes.items() if _says_something(value)}
    if told:
        OUT.print("\nreport", style="bold")
        print_metrics(told)
    if point:
        OUT.print(plain(f"\nrule of the operating point: {point['rule']}"))
        for at in point["trade_off"]:
            lost, left = at["true_negatives_lost"], at["false_negative_rate_after"]
            OUT.print(plain(f"  lost {lost:.3f}, false negatives left {left:.3f}  {at['rule']}"))
    truth = {name: value for name, value in result.items() if isinstance(value, Mapping) and "low" in value}
    if truth:
        OUT.print("\nagainst the truth", style="bold")
        print_metrics(truth)


def _says_something(value: Mapping[str, Any]) -> bool:
    return any(part not in (0, None, {}) for part in value.values())


FINDINGS = 12
"""That fit on one screen."""


def print_validation(result: Any) -> None:
    """What was looked at; then findings, errors first, each with what one of its rows says."""
    for name, rows in result.rows.items():
        looks_like = f", looks like {result.layouts[name]}" if name in result.layouts else ""
        OUT.print(plain(f"{name}: {rows} rows{looks_like}"), style="dim")
    for finding in result.findings[:FINDINGS]:
        style = "red" if finding.severity == "error" else "yellow"
        rows = "1 row" if finding.count == 1 else f"{finding.count} rows"
        OUT.print(
            Text(f"{finding.severity:8}", style=style) + plain(f"{finding.table}: {finding.message} · {rows}")
        )
        said = f" “{finding.excerpt}”" if finding.excerpt else ""
        examples = ", ".join(finding.examples[: 1 if said else 3])
        OUT.print(Text(" " * 8) + plain(f"{finding.check}: {examples}{said}"))
    if len(result.findings) > FINDINGS:
        OUT.print(plain(f"… and {len(result.findings) - FINDINGS} more findings (--json tells them all)"))
    verdict = "[green]passed[/green]" if result.passed else "[red]did not pass[/red]"
    errors, warnings = (
        _counted(n, what) for n, what in ((result.errors, "error"), (result.warnings, "warning"))
    )
    OUT.print(f"{verdict}: {errors}, {warnings}; {result.expectations} expectations")


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def print_place(result: Mapping[str, Any]) -> None:
    """A run's or release's funnel, its places, and what is left to do."""
    OUT.print(f"[bold]{escape(str(result['name']))}[/bold]  {escape(str(result['state']))}\n")
    print_funnel(result["counts"])
    OUT.print()
    for name, path in result["places"].items():
        OUT.print(f"{name:9} {escape(str(path))}")
    OUT.print(f"next      {escape(str(result['next']))}")


def print_recipe(options: RecipeOptions, as_json: bool) -> None:
    """Print the recipe schema as JSON or as text."""
    if as_json:
        print_json(Recipe.model_json_schema(by_alias=True))
    elif options.explain:
        print_recipe_keys(Recipe)
    else:
        OUT.print("Example recipes are in data/recipes/. Every key: counterfoil recipe --explain")


def print_recipe_keys(model: type[BaseModel], prefix: str = "") -> None:
    """Every key of a recipe with its type, default and meaning."""
    for name, field in model.model_fields.items():
        key = prefix + (field.alias or name)
        section = _section(field.annotation)
        default = (
            "required" if field.is_required() else _default(field.get_default(call_default_factory=True))
        )
        told = "" if section else f"  {_type_name(field.annotation)}, {default}"
        OUT.print(Text(key, style="bold") + Text(told))
        doc = field.description or (section.__doc__ if section else "") or ""
        if doc:
            OUT.print(Text("    " + " ".join(doc.split()), style="dim"))
        if section:
            inner = (
                "<name>."
                if get_origin(field.annotation) is dict
                else "[]."
                if get_origin(field.annotation) is tuple
                else ""
            )
            print_recipe_keys(section, f"{key}.{inner}")


def _section(annotation: Any) -> type[BaseModel] | None:
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _default(value: Any) -> str:
    if isinstance(value, (tuple, dict)) and not value:
        return "default none"
    if isinstance(value, tuple):
        return "default [" + ", ".join(map(str, value)) + "]"
    return f"default {value!r}" if isinstance(value, str) else f"default {value}"


def _type_name(annotation: Any) -> str:
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is tuple:
        return f"list of {_type_name(args[0])}"
    if origin is dict:
        return f"map of {_type_name(args[0])} to {_type_name(args[1])}"
    if origin in (Union, types.UnionType):
        return " or ".join(_type_name(a) for a in args if a is not type(None))
    if args and origin is not None and str(origin).endswith("Literal"):
        return " | ".join(map(str, args))
    if origin is not None and hasattr(annotation, "__metadata__"):
        return _type_name(args[0])
    names = {str: "text", int: "whole number", float: "number", bool: "true or false"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))


# What a person sees of an audit: a line a measure, and a line a cue.


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


# What deduplication found, for people: the figures, and pairs on either side of the threshold.


SHOWN = 3
PAIRS = {"least_similar": "least similar that were merged", "near_misses": "most similar that both stayed"}


def print_deduplication(result: Mapping[str, Any]) -> None:
    """Figures first, then the pairs by which to judge the threshold."""
    figures = {name: value for name, value in result.items() if name not in PAIRS}
    reasons = {f"dropped as {name}": n for name, n in figures.pop("reasons").items()}
    print_figures(figures | reasons)
    for name, title in PAIRS.items():
        if result[name]:
            rows = table(title, "", numbers=(0,))
            for pair in result[name][:SHOWN]:
                rows.add_row(f"{pair['similarity']:.2f}", plain(f"{pair['id']}: {pair['text']}"))
                rows.add_row("", plain(f"{pair['other']}: {pair['other_text']}"))
            OUT.print(rows)


# What a person sees of comparisons and evaluations.


SHOWN_PRINTING_RELEASES = 5


def print_diff(result: Mapping[str, Any]) -> None:
    """Versions, counts by kind of change with some ids, and how scores moved."""
    OUT.print(f"[bold]{result['old_version']} → {result['new_version']}[/bold] ({result['bump']})")
    rows = table("change", "questions", "some of them", numbers=(1,))
    for kind in ("added", "removed", "reworded", "relabelled"):
        ids = result[kind]
        more = " …" if len(ids) > SHOWN_PRINTING_RELEASES else ""
        rows.add_row(kind, f"{len(ids):,}", plain(" ".join(ids[:SHOWN_PRINTING_RELEASES]) + more))
    rows.add_row("in both", f"{result['common']:,}", "")
    OUT.print(rows)
    for change in (*result["schema_changes"], *result["other_changes"]):
        OUT.print(plain(change))
    drift = result["score_drift"]
    if drift["n"]:
        OUT.print(
            f"fitness moved by {drift['value']:+.3f} ({drift['low']:+.3f} to {drift['high']:+.3f}) "
            f"over {drift['n']:,} questions that both judged"
        )


def print_evaluation(result: Mapping[str, Any]) -> None:
    """The leaderboard, and where the rest is."""
    columns = ("family", "metric", "model", "effect", "95 % interval", "A/A", "q", "n")
    rows = table(*columns, numbers=(3, 5, 6, 7))
    for row in result["leaderboard"]:
        floor = row["a_a_floor"]
        rows.add_row(
            row["family"],
            row["metric"],
            plain(row["model"]),
            f"{row['effect']:+.3f}",
            "–" if row["low"] is None else f"{row['low']:+.3f} to {row['high']:+.3f}",
            "–" if floor is None else f"{floor:+.3f}",
            "–" if row["q_value"] is None else f"{row['q_value']:.3f}",
            str(row["n"]),
        )
    OUT.print(rows)
    OUT.print(plain(f"page, table and effects: {result['folder']}"))


def print_drift(result: Mapping[str, Any]) -> None:
    """Both benches side by side, and how far they agree."""
    rows = table("", "judges", "fitness", "floor", "mean", "found", numbers=(3, 4, 5))
    for name in ("old", "new"):
        side = result[name]
        mean = "–" if side["mean_fitness"] is None else f"{side['mean_fitness']:.3f}"
        judges = plain(", ".join(side["judges"]))
        rows.add_row(name, judges, side["fitness_form"], f"{side['floor']:.3f}", mean, str(side["found"]))
    OUT.print(rows)
    drift, kappa, rank = (result[key] for key in ("fitness_drift", "kappa", "rank_correlation"))
    said = [f"{result['questions']:,} questions judged by both"]
    if drift is not None:
        said.append(f"fitness {drift['value']:+.3f} ({drift['low']:+.3f} to {drift['high']:+.3f})")
    said.append("rank correlation " + ("not defined" if rank is None else f"{rank:.2f}"))
    said.append("kappa " + ("not defined" if kappa is None else f"{kappa:.2f}"))
    OUT.print("; ".join(said))
    for name in ("old", "new"):
        if ids := result[f"only_{name}_finds"]:
            OUT.print(plain(f"found by the {name} judges only: {' '.join(ids[:SHOWN_PRINTING_RELEASES])}"))
    OUT.print(plain(f"verdicts and figures: {result['folder']}"))


def print_published(result: Mapping[str, Any]) -> None:
    """What is where now, and what is left to do."""
    done = "is published" if result["new"] else "was there already, and is whole"
    if result["tag"] is None:
        done = "is proposed" if result["new"] else "was proposed already, and is whole"
    OUT.print(plain(f"{result['repo']} {result['version']} {done}: {result['files']} files read back"))
    OUT.print(plain(f"commit    {result['commit']}"))
    OUT.print(
        plain(f"tag       {result['tag'] or 'none yet: publish again when the pull request is merged'}")
    )
    OUT.print(plain(f"url       {result['url']}"))


def print_verified(result: Any) -> None:
    """One line for every file that differs, or that all is well."""
    for line in result.differences:
        OUT.print(plain(line), soft_wrap=True)
    if result.verified:
        told = f"{result.files} files, {sum(result.rows.values()):,} rows"
        OUT.print(plain(f"{result.release} is {result.name} {result.version}, whole: {told}"))
