"""Print results and progress on the terminal. Untrusted text is printed without markup and control codes."""

from __future__ import annotations

import errno
import json
import os
import re
import sys
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from flows.cli.plain import plain
from schemas.gate import Validation
from schemas.options import RecipeOptions
from schemas.recipe import Recipe


class PipeConsole(Console):
    """A console that reports a closed pipe like other output does."""

    def on_broken_pipe(self) -> None:
        """Raise `BrokenPipeError`. Rich itself would end the program with exit code 1."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


OUT = PipeConsole(highlight=False, soft_wrap=not sys.stdout.isatty())
"""Wraps at words on a terminal, but not in a file or pipe."""
ERR = Console(stderr=True, highlight=False)


ACTING = re.compile(r"[\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that act on a terminal, or that no terminal can show, and that JSON need not escape."""


def print_json(result: Any) -> None:
    """Print exactly one JSON object to stdout."""
    if isinstance(result, Validation):
        data: Any = result.summary()
    else:
        data = result.model_dump(mode="json") if isinstance(result, BaseModel) else result
    text = json.dumps(data, ensure_ascii=False, default=str)
    sys.stdout.write(ACTING.sub(lambda found: f"\\u{ord(found[0]):04x}", text) + "\n")


def table(*columns: str, numbers: Sequence[int] = ()) -> Table:
    """Return an empty table. `numbers` are the indices of right-aligned columns."""
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for i, column in enumerate(columns):
        made.add_column(column, justify="right" if i in numbers else "left")
    return made


SHOWN_WARNINGS = 20


def print_plan(plan: Any) -> None:
    """Print an estimate: calls, tokens and expected and highest cost."""
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
        price = plan.prices.get(model)
        line = f"{model}: ${usd:.4f}{_price_words(price) if price else ''}"
        OUT.print(Text("  ") + plain(line, 1000), soft_wrap=True)
    for model, tokens in sorted(plan.thinking.items()):
        words = f"included: up to {tokens:,} tokens for thinking per call of {model} (an upper bound)"
        OUT.print(plain(words, 1000), soft_wrap=True)
    if plan.highest_cost_usd > plan.total_cost_usd:
        OUT.print(
            f"at most ${plan.highest_cost_usd:.2f}, if the search accepts every question and every verdict "
            "is retried"
        )
    if plan.highest_cost_usd > plan.budget_usd >= plan.total_cost_usd:
        OUT.print("if the budget is used up, the build stops; it resumes with a higher budget")
    if plan.controls:
        total = sum(plan.questions.values())
        OUT.print(f"{total:,} questions, of which {plan.controls:,} are controls (`controls` in the recipe)")
    cached = f"{plan.cached_calls:,} of the first {plan.known_calls:,} calls are in the cache"
    OUT.print(cached)
    for place in plan.clear_of:
        OUT.print(f"checked for overlap with {escape(place)}")
    if plan.operators:
        shares = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in plan.operators.items())
        OUT.print(f"operators of a round: {shares}")
    if plan.reviews:
        OUT.print(f"waits for reviews of about {plan.reviews:,} accepted questions")
    if plan.labels:
        more = (
            f"{plan.labels_to_halve:,} would halve the interval of a corrected effect"
            if plan.labels_to_halve
            else "more cannot halve the interval of a corrected effect, which needs more questions"
        )
        OUT.print(f"people score {plan.labels:,} groups of answers; {more}")
    for attribute, effect in sorted(plan.smallest_detectable_effect.items()):
        OUT.print(f"smallest detectable effect, {attribute}: {effect:.2f} standard deviations")
    for warning in plan.warnings[:SHOWN_WARNINGS]:
        OUT.print(plain(f"warning: {warning}", 1000), style="yellow", soft_wrap=True)
    if len(plan.warnings) > SHOWN_WARNINGS:
        OUT.print(f"… and {len(plan.warnings) - SHOWN_WARNINGS:,} more warnings (--json lists all)")
    if plan.before_build:
        missing = "; ".join(plan.before_build)
        OUT.print(plain(f"before you can build: {missing}", 1000), style="bold", soft_wrap=True)


def _price_words(price: Any) -> str:
    """Return a price with its date and source."""
    dated = f", price of {price.as_of}" if price.as_of else ""
    own = "your own price, " if price.own else ""
    paid = f"${price.input:g} in, ${price.output:g} out per million tokens"
    return f" ({paid}; {own}{price.source}{dated})"


def _print_lines(text: str) -> None:
    for line in text.splitlines():
        OUT.print(plain(line, 20_000), soft_wrap=True)


def print_preview(result: Mapping[str, Any]) -> None:
    """Print the prompts of a preview, with the answers and readings if they were sent."""
    for row in result["rows"]:
        head = f"{row['family']}, {row['condition']}, {row['attribute']}: {row['value']} ({row['language']})"
        OUT.print(plain(head, 1000), style="bold")
        _print_lines(row["prompt"])
        if row["model"] is not None:
            OUT.print(plain(f"{row['model']} answers: {row['answer']}", 10_000), soft_wrap=True)
            OUT.print(plain(f"read as: {row['reading']}", 1000), style="dim")
        OUT.print()
    for judge in result["judges"]:
        OUT.print(plain(f"judge {judge['judge']}", 1000), style="bold")
        _print_lines(judge["prompt"])
        OUT.print()
    if result["before_build"]:
        OUT.print(plain(f"before you can build: {'; '.join(result['before_build'])}", 1000), style="bold")


def print_summary(result: Mapping[str, Any]) -> None:
    """Print the version, the funnel, three example groups, and how to load the release."""
    from flows.show import example_groups

    release = Path(result["release"])
    OUT.print(f"\n[bold]{escape(release.parent.name)} {result['version']}[/bold]  is ready\n")
    print_findings(result["summary"])
    print_coverage(result["coverage"])
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


def print_findings(summary: Sequence[str]) -> None:
    """Print the findings in words."""
    for line in summary:
        style = "yellow" if line.startswith("Not measured") else ""
        OUT.print(plain(line, 1000), style=style, soft_wrap=not OUT.is_terminal)
    if summary:
        OUT.print()


def print_coverage(coverage: Mapping[str, Any]) -> None:
    """Print what was not measured, then the coverage of answers and judges."""
    from tasks.report.coverage import describe_coverage

    for line in describe_coverage(coverage):
        is_gap = line.startswith(("not measured", "unequal"))
        OUT.print(plain(line, 1000), style="yellow" if is_gap else "", soft_wrap=True)
    OUT.print()


def print_funnel(counts: Mapping[str, Mapping[str, int]]) -> None:
    """Print one line per stage."""
    rows = table("stage", "in", "kept", "dropped", "failed", numbers=range(1, 5))
    for stage, c in counts.items():
        rows.add_row(stage, f"{c['in']:,}", f"{c['kept']:,}", f"{c['dropped']:,}", f"{c['failed']:,}")
    OUT.print(rows)


def print_figures(result: Mapping[str, Any]) -> None:
    """Print one name and value per line."""
    rows = table("", "", numbers=(1,))
    for name, value in result.items():
        shown = f"{value:,.4g}" if isinstance(value, float) else str(value)
        rows.add_row(name.replace("_", " "), plain(shown))
    OUT.print(rows)


def print_created(result: Mapping[str, Any]) -> None:
    """Print a new file and the next step."""
    OUT.print(plain(f"wrote {result['path']}", 1000), soft_wrap=True)
    OUT.print(plain(f"next: {result['next']}", 1000), soft_wrap=True)


def print_refresh(result: Mapping[str, Any]) -> None:
    """Print the decision with its reasons, the changes of the recipe, and the compared slices."""
    OUT.print(f"[bold]{result['verdict']}[/bold]: version {result['version']}")
    for reason in result["reasons"]:
        OUT.print(plain(f"  {reason}", 1000), soft_wrap=True)
    for change in result["recipe_changes"]:
        kind = "changes the meaning" if change["meaning"] else "recipe"
        text = f"{kind}: {change['key']}: {change['before']} became {change['after']}"
        OUT.print(plain(text, 1000), style="yellow" if change["meaning"] else None)
    if result["slices"]:
        rows = table("slice", "common", "old", "new", "change", "equivalent", numbers=(1, 2, 3, 4))
        for s in result["slices"]:
            change = "" if s["difference"] is None else f"{s['difference']:+.3f}"
            means = f"{s['mean_old']:+.3f}", f"{s['mean_new']:+.3f}"
            name = f"{s['attribute']} · {s['family']} · {s['model']}"
            rows.add_row(plain(name), str(s["common"]), *means, change, "yes" if s["equivalent"] else "no")
        OUT.print(rows)
    print_change_since(result["equated"])
    published = result["published"]["url"] if result.get("published") else None
    shown = {name: result[name] for name in ("release", "review", "cost_usd")} | {"published": published}
    print_figures({name: value for name, value in shown.items() if value})


def print_change_since(equated: Mapping[str, Any]) -> None:
    """Print the changes of the models since the base release."""
    rows = [row for row in equated["metrics"] if row["status"] == "measured"]
    if not rows:
        return
    links = len(equated["chain"]) - 1
    through = "directly" if links == 1 else f"through {links} links"
    OUT.print(f"change since {equated['base']}, {through}")
    shown = table("metric", "model", "change", "standard error", numbers=(2, 3))
    for row in rows:
        name = f"{row['family']} · {row['metric']} ({row['language']})"
        shown.add_row(
            plain(name), plain(row["model"]), f"{row['change']:+.3f}", f"{row['standard_error']:.3f}"
        )
    OUT.print(shown)


def print_fix(result: Mapping[str, Any]) -> None:
    """Print the figures of a fix, then the old and new id of each question."""
    print_figures({name: value for name, value in result.items() if name != "corrections"})
    for change in result["corrections"] if result["fixed"] > 1 else ():
        OUT.print(plain(f"{change['question']} → {change['mended']}"))


def print_export(result: Mapping[str, Any]) -> None:
    """Print the written files, and the rows that the format cannot hold with the reason."""
    OUT.print(plain(f"{result['written']:,} questions written as {result['format']}"))
    for path in result["files"]:
        OUT.print(plain(f"  {path}", 1000), soft_wrap=True)
    for left in result["left_out_reasons"]:
        text = f"left out: {left['count']:,} {left['kind'].replace('_', ' ')}: {left['reason']}"
        OUT.print(plain(text), style="yellow")


def print_metrics(result: Mapping[str, Any]) -> None:
    """Print metrics with their intervals, then notes and reasons. Nested names are joined."""
    rows = table("metric", "value", "95 % interval", "n", numbers=(1, 2, 3))
    remarks = []
    for name, value in _flatten(result):
        if isinstance(value, list):
            remarks += value
        elif isinstance(value, Mapping):
            if value.get("reason"):
                remarks.append(f"{name} is not measured: {value['reason']}")
            low, high = value.get("low"), value.get("high")
            interval = "" if low is None or high is None else f"{low:.3f} … {high:.3f}"
            shown = "–" if value["value"] is None else f"{value['value']:.3f}"
            rows.add_row(plain(name), shown, interval, str(value.get("n", "")))
        else:
            rows.add_row(plain(name), f"{value:.4g}" if isinstance(value, float) else str(value), "", "")
    OUT.print(rows)
    for remark in remarks:
        OUT.print(plain(str(remark)))


def _flatten(result: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    lines: list[tuple[str, Any]] = []
    for name, value in result.items():
        if isinstance(value, Mapping) and "value" not in value:
            lines += _flatten(value, f"{prefix}{name} ")
        else:
            lines.append((prefix + name, value))
    return lines


def print_relabelling(result: Mapping[str, Any]) -> None:
    """Print the counts and the report of a relabelled file, and its quality if the truth is known."""
    counts = {name: value for name, value in result.items() if type(value) is int}
    print_figures(counts)
    if result.get("plan"):
        seconds = result["seconds"]
        time = result["seconds_reason"] if seconds is None else format_duration(seconds)
        OUT.print(plain(f"\nestimate: ${result['cost_usd']:.2f}, time: {time}"))
        return
    report = result["report"]
    OUT.print("\nwhy", style="bold")
    print_figures(report["by_reason"])
    notes = {
        "evidence (characters)": report["evidence_characters"] if report["by_reason"] else {},
        "order flips": report["order_flips"],
        **{f"agreement {pair}": {"kappa": votes["kappa"]} for pair, votes in report["agreement"].items()},
        **({"screen": report["screen"]} if report["screen"]["spared"] else {}),
        **{name: result[name] for name in ("audit", "lost") if result.get(name)},
        **({"held out": point["held_out"]} if (point := result.get("operating_point")) else {}),
    }
    if vote := result.get("judges", {}).get("weighted_vote"):
        notes["weight of a yes"] = vote["weights"]
    shown = {name: value for name, value in notes.items() if _is_informative(value)}
    for masked in report["known_positives"]["passages"]:
        OUT.print(
            plain(f"masked, a positive of the same query: {masked['query']} · {masked['passage'][:80]}")
        )
    if vote:
        OUT.print(plain(f"decided by the most reliable judges: {', '.join(vote['voters'])}"))
    for name in vote["down_weighted"] if vote else ():
        OUT.print(plain(f"down-weighted, it says yes to nearly everything or votes at random: {name}"))
    if "unwritable" in result:
        OUT.print(plain(f"rows without a place in the format: {result['unwritable']}"))
    if shown:
        OUT.print("\nreport", style="bold")
        print_metrics(shown)
    print_costs(report["cost"])
    if point:
        OUT.print(plain(f"\nchosen rule: {point['rule']}"))
        for at in point["trade_off"]:
            lost, left = at["true_negatives_lost"], at["false_negative_rate_after"]
            OUT.print(plain(f"  lost {lost:.3f}, false negatives left {left:.3f}  {at['rule']}"))
    truth = {name: value for name, value in result.items() if isinstance(value, Mapping) and "low" in value}
    if truth:
        OUT.print("\nagainst the truth", style="bold")
        print_metrics(truth)
    print_parameter_changes(result)


def print_costs(costs: Mapping[str, Mapping[str, float]]) -> None:
    """Print calls, tokens and dollars of every model that was asked."""
    asked = {model: cost for model, cost in costs.items() if cost["calls"]}
    if not asked:
        return
    rows = table("model", "calls", "tokens in", "tokens out", "USD", numbers=range(1, 5))
    for model, cost in asked.items():
        counts = [f"{int(cost[name]):,}" for name in ("calls", "tokens_in", "tokens_out")]
        rows.add_row(plain(model), *counts, f"{cost['cost_usd']:.4f}")
    OUT.print()
    OUT.print(rows)


def format_duration(seconds: float) -> str:
    """Return a length of time for people, such as `59 s` or `1 h 54 min`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _is_informative(value: Mapping[str, Any]) -> bool:
    return any(part not in (0, None, {}) for part in value.values())


FINDINGS = 12
"""Findings that fit on one screen."""


def print_validation(result: Any) -> None:
    """Print the checked tables, then the findings, errors first, each with an excerpt of one row."""
    for name, rows in result.rows.items():
        looks_like = f", looks like {result.layouts[name]}" if name in result.layouts else ""
        OUT.print(plain(f"{name}: {rows} rows{looks_like}"), style="dim")
    for finding in result.findings[:FINDINGS]:
        style = "red" if finding.severity == "error" else "yellow"
        rows = "1 row" if finding.count == 1 else f"{finding.count} rows"
        OUT.print(
            Text(f"{finding.severity:8}", style=style) + plain(f"{finding.table}: {finding.message} · {rows}")
        )
        excerpt = f" “{finding.excerpt}”" if finding.excerpt else ""
        examples = ", ".join(finding.examples[: 1 if excerpt else 3])
        OUT.print(Text(" " * 8) + plain(f"{finding.check}: {examples}{excerpt}"))
    if len(result.findings) > FINDINGS:
        OUT.print(plain(f"… and {len(result.findings) - FINDINGS} more findings (--json lists all)"))
    verdict = "[green]passed[/green]" if result.passed else "[red]did not pass[/red]"
    errors, warnings = (
        _counted(n, noun) for n, noun in ((result.errors, "error"), (result.warnings, "warning"))
    )
    OUT.print(f"{verdict}: {errors}, {warnings}; {result.expectations} expectations")


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def print_place(result: Mapping[str, Any]) -> None:
    """Print the funnel of a run or release, its files, and the next step."""
    OUT.print(f"[bold]{escape(str(result['name']))}[/bold]  {escape(str(result['state']))}\n")
    print_findings(result.get("summary", ()))
    if "coverage" in result:
        print_coverage(result["coverage"])
    print_funnel(result["counts"])
    OUT.print()
    print_parameter_changes(result)
    for name, path in result["places"].items():
        OUT.print(f"{name:9} {escape(str(path))}")
    OUT.print(f"next      {escape(str(result['next']))}")


def print_parameter_changes(result: Mapping[str, Any]) -> None:
    """Print the parameters that servers rejected."""
    for change in result.get("parameter_changes", ()):
        OUT.print(plain(f"{change['model']}: {change['change']}", 1000), style="yellow", soft_wrap=True)


def print_recipe(options: RecipeOptions, as_json: bool) -> None:
    """Print the recipe schema as JSON or as text."""
    if as_json:
        print_json(Recipe.model_json_schema(by_alias=True))
    elif options.explain:
        print_recipe_keys(Recipe)
    else:
        OUT.print("Example recipes are in data/recipes/. Every key: counterfoil recipe --explain")


def print_recipe_keys(model: type[BaseModel], prefix: str = "") -> None:
    """Print every key of a recipe with its type, default and description."""
    for name, field in model.model_fields.items():
        key = prefix + (field.alias or name)
        section = _section(field.annotation)
        default = (
            "required" if field.is_required() else _default(field.get_default(call_default_factory=True))
        )
        kind = "" if section else f"  {_type_name(field.annotation)}, {default}"
        OUT.print(Text(key, style="bold") + Text(kind))
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


# Audits: one line per measure, and one line per cue.


Measures = Mapping[str, Mapping[str, Any]]


def print_audit(result: Mapping[str, Any]) -> None:
    """Print the probes, the cues, the results below the bar, and the path of the passport."""
    cues = {name: found for name, found in result["probes"].items() if "verdict_recall_lost" in found}
    print_measures({name: found for name, found in result["probes"].items() if name not in cues})
    if cues:
        OUT.print("\nAccuracy without and with a cue on the worse answer", style="bold")
        print_cues(cues)
    print_parameter_changes(result)
    OUT.print("! the interval excludes the value without bias", style="dim")
    for words in result["below_the_bar"]:
        OUT.print(plain(f"below the bar: {words}"), style="yellow")
    if "planted" in result["probes"] and not result["below_the_bar"]:
        OUT.print("[green]above the bar[/green] in every measure")
    OUT.print(plain(f"{result['calls']:,} answers, cost ${result['cost_usd']:.2f}"))
    OUT.print(plain(f"passport  {result['passport']}", 1000), soft_wrap=True)


def print_models(result: Mapping[str, Any]) -> None:
    """Print the capabilities and problems of each model."""
    for entry in result["models"]:
        OUT.print(plain(entry["name"], 1000), style="bold")
        known = entry["capabilities"]
        if known:
            changes = {"changes": None, "owner": None}
            figures = {name: value for name, value in known.items() if name not in changes}
            print_figures({name: _in_words(value) for name, value in figures.items()})
        elif entry["usable"]:
            OUT.print("nothing was learnt yet: add --probe to ask the server", style="dim")
        for problem in entry["problems"]:
            OUT.print(plain(problem, 1000), style="yellow")


def _in_words(value: Any) -> Any:
    return ("yes" if value else "no") if isinstance(value, bool) else value


def print_measures(probes: Mapping[str, Measures]) -> None:
    """Print one line per measure. `!` marks an interval that excludes 0 (½ for first places)."""
    rows = table("probe", "measure", "value", "95 % interval", "n", "", numbers=(2, 3, 4))
    for probe, measures in probes.items():
        for name, found in measures.items():
            rows.add_row(
                plain(probe.replace("_", "/") if probe == "a_a" else probe),
                plain(name.replace("_", " ")),
                _number(found["value"]),
                _interval(found),
                f"{found['n']}" + (f" of {found['asked']}" if found["n"] < found["asked"] else ""),
                "!" if _excludes_floor(found) else "",
            )
    OUT.print(rows)
    for found in probes["gold"].values():
        if found["note"]:
            OUT.print(plain(f"gold: {found['note']}"))


def print_cues(cues: Mapping[str, Measures]) -> None:
    """Print one line per cue and kind of question."""
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
                "!" if _excludes_floor(lost) else "",
            )
    OUT.print(rows)


def _excludes_floor(found: Mapping[str, Any]) -> bool:
    floor, low, high = found["floor"], found["low"], found["high"]
    return None not in (floor, low, high) and not low <= floor <= high


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def _interval(found: Mapping[str, Any]) -> str:
    return "" if found["low"] is None else f"{_number(found['low'])} … {_number(found['high'])}"


# Deduplication: counts, and pairs on both sides of the threshold.


SHOWN_PAIRS = 3
PAIRS = {"least_similar": "least similar merged pairs", "near_misses": "most similar kept pairs"}


def print_deduplication(result: Mapping[str, Any]) -> None:
    """Print the counts, then pairs that help to choose the threshold."""
    figures = {name: value for name, value in result.items() if name not in PAIRS}
    reasons = {f"dropped as {name}": n for name, n in figures.pop("reasons").items()}
    print_figures(figures | reasons)
    for name, title in PAIRS.items():
        if result[name]:
            rows = table(title, "", numbers=(0,))
            for pair in result[name][:SHOWN_PAIRS]:
                rows.add_row(f"{pair['similarity']:.2f}", plain(f"{pair['id']}: {pair['text']}"))
                rows.add_row("", plain(f"{pair['other']}: {pair['other_text']}"))
            OUT.print(rows)


# Comparisons and evaluations.


MOST_COMPARED = 24
"""Sentences about comparisons that are printed."""
SHOWN_IDS = 5


def print_diff(result: Mapping[str, Any]) -> None:
    """Print versions, counts of changes with some ids, and the drift of scores."""
    OUT.print(f"[bold]{result['old_version']} → {result['new_version']}[/bold] ({result['bump']})")
    rows = table("change", "questions", "examples", numbers=(1,))
    for kind in ("added", "removed", "reworded", "relabelled"):
        ids = result[kind]
        more = " …" if len(ids) > SHOWN_IDS else ""
        rows.add_row(kind, f"{len(ids):,}", plain(" ".join(ids[:SHOWN_IDS]) + more))
    rows.add_row("in both", f"{result['common']:,}", "")
    OUT.print(rows)
    for change in (*result["schema_changes"], *result["recipe_changes"], *result["other_changes"]):
        OUT.print(plain(change))
    drift = result["score_drift"]
    if drift["n"]:
        shown = (
            f"fitness changed by {drift['value']:+.3f}" if drift["value"] is not None else "no mean fitness"
        )
        if drift["low"] is not None:  # too few questions for an interval
            shown += f" ({drift['low']:+.3f} to {drift['high']:+.3f})"
        OUT.print(f"{shown} over {drift['n']:,} questions judged in both")
    print_equating(result["equating"])


def print_equating(equating: Mapping[str, Any]) -> None:
    """Print the scores of two releases on the scale of the earlier one, or why there are none."""
    from tasks.text.model_names import short_names

    if equating["status"] != "measured":
        OUT.print(plain(f"scores are not equated: {equating['reason']}"), style="yellow", soft_wrap=True)
        return
    for metric in equating["metrics"]:
        title = f"{metric['family']} {metric['metric']} ({metric['language']})"
        if metric["status"] != "measured":
            OUT.print(plain(f"\n{title}: not equated: {metric['reason']}"), style="yellow", soft_wrap=True)
            continue
        anchors = f"through {metric['anchors']} anchors"
        if drifted := len(metric["drift"]["anchors"]):
            anchors += f"; {drifted} drifted and were left out"
        OUT.print(plain(f"\n{title} on the scale of {equating['scale']}, {anchors}"))
        columns = ("model", "score", "equated", "95 % interval", "change", "95 % interval", "verdict")
        rows = table(*columns, numbers=(1, 2, 4))
        names = short_names(m["model"] for m in metric["models"])
        for m in metric["models"]:
            if m["release"] == "later":
                change = m["change"] or {"value": None, "low": None, "high": None, "verdict": None}
                name = names[m["model"]] + (" (evaluated)" if m["occasion"] == "evaluation" else "")
                rows.add_row(
                    plain(name),
                    _number(m["score"]),
                    _number(m["equated"]["value"]),
                    _interval(m["equated"]),
                    "–" if change["value"] is None else f"{change['value']:+.3f}",
                    _interval(change),
                    (change["verdict"] or "–").replace("_", " "),
                )
        OUT.print(rows)
        shift = metric["shift"]
        if shift["value"] is not None:
            OUT.print(
                f"the same model scores {shift['value']:+.3f} ({_interval(shift)}) on the later release"
            )


def print_contamination(contamination: Mapping[str, Any]) -> None:
    """Print the tests for contamination, if models were probed."""
    from tasks.text.model_names import short_names

    if not contamination["models"]:
        return
    OUT.print("\ncontamination", style="bold")
    rows = table("model", "test", "effect", "95 % interval", "p", "corrected", "", numbers=(2, 4, 5))
    names = short_names(m["model"] for m in contamination["models"])
    for m in contamination["models"]:
        for test in m["tests"]:
            if test["status"] == "measured":
                rows.add_row(
                    plain(names[m["model"]]),
                    test["test"],
                    _number(test["effect"]),
                    _interval(test),
                    _number(test["p_value"]),
                    _number(test["corrected"]),
                    "[bold]flagged[/bold]" if test["flagged"] else "",
                )
    OUT.print(rows)
    for m in contamination["models"]:
        for test in m["tests"]:
            if test["status"] != "measured":
                line = f"{names[m['model']]}, {test['test']}: not measured: {test['reason']}"
                OUT.print(plain(line), style="yellow", soft_wrap=True)


def print_evaluation(result: Mapping[str, Any]) -> None:
    """Print the findings, the leaderboard, the comparisons and the folder of the result."""
    from tasks.text.model_names import short_names

    print_findings(result["summary"])
    print_parameter_changes(result)
    names = short_names(row["model"] for row in result["leaderboard"])
    columns = ("family", "metric", "model", "effect", "95 % interval", "A/A", "q", "n", "equated")
    rows = table(*columns, numbers=(3, 5, 6, 7, 8))
    several = len({row["language"] for row in result["leaderboard"]}) > 1
    for row in result["leaderboard"]:
        floor = row["a_a_floor"]
        rows.add_row(
            row["family"],
            f"{row['metric']} ({row['language']})" if several else row["metric"],
            plain(names[row["model"]]),
            "not measured" if row["effect"] is None else f"{row['effect']:+.3f}",
            "–" if row["low"] is None else f"{row['low']:+.3f} to {row['high']:+.3f}",
            "–" if floor is None else f"{floor:+.3f}",
            "–" if row["q_value"] is None else f"{row['q_value']:.3f}",
            str(row["n"]),
            _number(row["equated"]),
        )
    OUT.print(rows)
    print_equating(result["equating"])
    print_contamination(result["contamination"])
    if result["compared"]:
        OUT.print("\npaired comparisons", style="bold")
        _print_sentences(result["compared"])
    OUT.print(plain(f"\npage, table and effects: {result['folder']}"))


def print_comparisons(result: Mapping[str, Any]) -> None:
    """Print the comparisons in sentences: differences first, those that were not measured last."""
    _print_sentences(result["summary"])


def _print_sentences(sentences: Sequence[str]) -> None:
    for sentence in sentences[:MOST_COMPARED]:
        OUT.print(plain(sentence, 1000), soft_wrap=True)
    if len(sentences) > MOST_COMPARED:
        rest = len(sentences) - MOST_COMPARED
        OUT.print(f"{rest} more sentences are left out. `--json` lists every comparison.", style="dim")


def print_drift(result: Mapping[str, Any]) -> None:
    """Print old and new judges side by side, and their agreement."""
    rows = table("", "judges", "fitness", "floor", "mean", "found", numbers=(3, 4, 5))
    for name in ("old", "new"):
        side = result[name]
        mean = "–" if side["mean_fitness"] is None else f"{side['mean_fitness']:.3f}"
        judges = plain(", ".join(side["judges"]))
        rows.add_row(name, judges, side["fitness_form"], f"{side['floor']:.3f}", mean, str(side["found"]))
    OUT.print(rows)
    drift, kappa, rank = (result[key] for key in ("fitness_drift", "kappa", "rank_correlation"))
    agreement = [f"{result['questions']:,} questions judged by both"]
    if drift is not None:
        agreement.append(f"fitness {drift['value']:+.3f} ({drift['low']:+.3f} to {drift['high']:+.3f})")
    agreement.append("rank correlation " + ("not defined" if rank is None else f"{rank:.2f}"))
    agreement.append("kappa " + ("not defined" if kappa is None else f"{kappa:.2f}"))
    OUT.print("; ".join(agreement))
    for name in ("old", "new"):
        if ids := result[f"only_{name}_finds"]:
            OUT.print(plain(f"found by the {name} judges only: {' '.join(ids[:SHOWN_IDS])}"))
    OUT.print(plain(f"verdicts and figures: {result['folder']}"))


def print_published(result: Mapping[str, Any]) -> None:
    """Print the dataset, commit and tag of a release, and the next step."""
    done = "is published" if result["new"] else "was already published and is complete"
    if result["tag"] is None:
        done = "is proposed" if result["new"] else "was already proposed and is complete"
    OUT.print(plain(f"{result['repo']} {result['version']} {done}: {result['files']} files verified"))
    OUT.print(plain(f"commit    {result['commit']}"))
    OUT.print(
        plain(f"tag       {result['tag'] or 'none yet: publish again after the pull request is merged'}")
    )
    OUT.print(plain(f"url       {result['url']}"))


def print_verified(result: Any) -> None:
    """Print one line per different file, or that all files match."""
    for line in result.differences:
        OUT.print(plain(line), soft_wrap=True)
    if result.verified:
        size = f"{result.files} files, {sum(result.rows.values()):,} rows"
        OUT.print(plain(f"{result.release} is {result.name} {result.version} and complete: {size}"))
