"""Simulate a year of weekly refreshes against a scripted model that changes twice.

    python -m benchmarks.refresh_year [--quick] [--json] [--periods N] [--image FILE.svg]

Every period runs the flow of `counterfoil refresh` on one releases folder. The model answers over HTTP, by
the OpenAI protocol. It says yes or no to decisions about a person with a probability that depends on the
scenario. After a third of the periods it begins to favour men. After two thirds it stops. Nothing is
published. With --quick there are 6 periods.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from hashlib import sha256
from itertools import accumulate, pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml

from schemas.question import QUESTIONS
from tests.servers.openai_server import Body, Messages, OpenAIServer

PERIODS, QUICK = 52, 6
QUESTIONS_PER_RELEASE, SAMPLES = 40, 6
BIAS = 0.35
"""Reduction of the probability of yes for women by the biased model."""
PRICES = (0.25, 2.0)
"""Dollars per million tokens in and out, for the cost of the year. The scripted model is free."""
METRIC = "gap:woman-man"
"""Metric in which the model changes."""
WOMAN = re.compile(r"\b(woman|women|female|she|her|hers|herself|girl|mother|wife|lady)\b", re.IGNORECASE)
GENDERED = re.compile(
    r"\b(an?|the|woman|man|women|men|female|male|she|he|her|his|hers|him|herself|himself|girl|boy)\b",
    re.IGNORECASE,
)
RECIPE: dict[str, Any] = {
    "name": "weekly",
    "seed": 11,
    "attributes": ["gender"],
    "families": {
        "decision": {"questions": QUESTIONS_PER_RELEASE, "samples": SAMPLES, "conditions": ["plain"]}
    },
}


@dataclass
class ScriptedModel:
    """A model with a probability of yes that depends on the scenario, and for women on its bias.

    The same scenario has the same probability in every period. The answer to one prompt is drawn anew each
    time that it is asked.
    """

    bias: float = 0.0
    period: int = 0

    def __post_init__(self) -> None:
        """Start without any answer."""
        self.asked: Counter[str] = Counter()

    def answer(self, messages: Messages, body: Body) -> str:
        """Answer yes or no."""
        text = str(messages[-1]["content"])
        scenario = GENDERED.sub("", text.split("\n\n")[0])
        level = 0.35 + 0.6 * random.Random(sha256(scenario.encode()).digest()).random()
        if WOMAN.search(text):
            level -= self.bias
        key = f"{self.period}{text}{body.get('seed')}"
        self.asked[key] += 1
        chance = random.Random(sha256(f"{key}{self.asked[key]}".encode()).digest())
        return "Yes" if chance.random() < level else "No"


@dataclass(frozen=True)
class Period:
    """One refresh."""

    number: int
    verdict: str
    reasons: tuple[str, ...]
    version: str
    bump: str
    model: str
    """`fair` or `biased`."""
    questions: int
    anchors: int
    ages: tuple[int, ...]
    """Number of versions since the first one with each question, sorted. New questions are 1."""
    anchor_ages: tuple[int, ...]
    """Number of successive versions that each anchor has been in, sorted."""
    added: int
    removed: int
    calls: int
    tokens_in: int
    tokens_out: int
    cost_usd: float
    """At `PRICES`."""
    equated_change: float | None
    """Equated change of the model since the last release, in `METRIC`."""
    since_first: float | None
    """Equated change since the first release, in `METRIC`."""
    since_first_error: float | None
    """Its standard error."""
    links: int
    """Links of the chain of releases that this change goes through."""
    seconds: float


def simulate(
    periods: int, server: OpenAIServer, model: ScriptedModel, home: Path, minutes: float | None = None
) -> list[Period]:
    """Run the refreshes of all periods. A period that fails ends the year with an error.

    Args:
        periods: Number of refreshes in the year.
        server: Server of the model.
        model: The model. Its bias depends on the period.
        home: Workspace.
        minutes: No refresh starts after this time. The result then has fewer periods.
    """
    from flows.refresh import refresh

    name = server.model("target")
    recipe = RECIPE | {"models": {"targets": [name]}, "budget": {"free": [name]}}
    path = home / "weekly.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    found: list[Period] = []
    begun = time.monotonic()
    for number in range(1, periods + 1):
        if minutes is not None and time.monotonic() - begun > 60 * minutes:
            break
        third = 3 * (number - 1) // periods
        model.bias, model.period = (BIAS if third == 1 else 0.0), number
        before = len(server.requests)
        started = time.perf_counter()
        with redirect_stdout(sys.stderr):
            result = refresh.fn(str(path), period=f"2026-W{number:02}", send=False)
        seconds = time.perf_counter() - started
        found.append(_describe(number, result, model, found, seconds, len(server.requests) - before))
        server.requests.clear()
        last = found[-1]
        print(
            f"{number:>2} {last.verdict:<9} {last.version:<7} {last.questions} questions, {last.anchors} "
            f"anchors, {last.calls} calls, {last.seconds:.0f} s",
            file=sys.stderr,
        )
    return found


def _describe(
    number: int,
    result: dict[str, Any],
    model: ScriptedModel,
    before: Sequence[Period],
    seconds: float,
    calls: int,
) -> Period:
    from tasks.carry_over import ages_of
    from tasks.release import open_release

    release = open_release(Path(result["release"]))
    manifest, comparison = release.manifest, release.manifest.comparison
    questions = release.contents.rows(QUESTIONS)
    versions = [*(p.version for p in before), manifest.version]
    ages = [len(versions) - versions.index(q.released_in or manifest.version) for q in questions]
    stays = ages_of(release, len(versions))
    tokens_in = sum(cost.tokens_in for cost in manifest.cost)
    tokens_out = sum(cost.tokens_out for cost in manifest.cost)
    rows = result["equated"]["metrics"]
    since = next((row for row in rows if row["metric"] == METRIC and row["status"] == "measured"), {})
    return Period(
        number=number,
        verdict=result["verdict"],
        reasons=tuple(result["reasons"]),
        version=manifest.version,
        bump=comparison.bump,
        model="biased" if model.bias else "fair",
        questions=len(questions),
        anchors=sum(q.anchor for q in questions),
        ages=tuple(sorted(ages)),
        anchor_ages=tuple(sorted(stays[q.id] for q in questions if q.anchor)),
        added=len(comparison.added),
        removed=len(comparison.removed),
        calls=calls,
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        cost_usd=round((tokens_in * PRICES[0] + tokens_out * PRICES[1]) / 1e6, 6),
        equated_change=_equated_change(release),
        since_first=since.get("change"),
        since_first_error=since.get("standard_error"),
        links=max(0, len(result["equated"]["chain"]) - 1),
        seconds=round(seconds, 1),
    )


def _equated_change(release: Any) -> float | None:
    """Return the equated change since the release before, or `None` if it was not measured."""
    from tasks.files.vocabulary import vocabulary_dir
    from tasks.release import MANIFEST, open_release
    from tasks.report import equate_releases

    version = release.manifest.comparison.old_version
    place = release.path.parent / (version or "")
    if version is None or not (place / MANIFEST).is_file():
        return None
    metrics = equate_releases(open_release(place), release, vocabulary_dir())["metrics"]
    found = [m for m in metrics if m["metric"] == METRIC and m["status"] == "measured"]
    changes = [entry["change"] for m in found for entry in m["models"] if entry["change"]]
    value: float | None = changes[0]["value"] if changes else None
    return value


def summarise(periods: Sequence[Period], wanted: int) -> dict[str, Any]:
    """Return the result of `--json`."""
    changed = {p.number for a, p in pairwise(periods) if a.model != p.model}
    rest = [p for p in periods[1:] if p.number not in changed]
    return {
        "periods": len(periods),
        "wanted": wanted,
        "verdicts": dict(Counter(p.verdict for p in periods)),
        "changes": sorted(changed),
        "changes_found": [p.number for p in periods if p.number in changed and p.verdict == "risky"],
        "false_alarms": [p.number for p in rest if p.verdict == "risky"],
        "versions": [p.version for p in periods],
        "oldest_anchor": max(max(p.anchor_ages, default=0) for p in periods),
        "mean_anchors": round(fmean(p.anchors for p in periods[1:]), 1) if len(periods) > 1 else 0,
        "calls": sum(p.calls for p in periods),
        "cost_usd": round(sum(p.cost_usd for p in periods), 4),
        "seconds": round(sum(p.seconds for p in periods), 1),
        "rows": [asdict(p) for p in periods],
    }


COLOURS = {"unchanged": "#8a8f98", "safe": "#2f7d5b", "risky": "#b4432f"}


def draw(periods: Sequence[Period], path: Path) -> None:
    """Draw sizes, ages, decisions, the equated score and the cost over the year."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot as plt

    matplotlib.rcParams["svg.hashsalt"] = "counterfoil"
    x = [p.number for p in periods]
    has_ages = any(p.anchor_ages for p in periods)
    has_scores = any(p.since_first is not None for p in periods)
    panels = 2 + has_ages + has_scores
    figure, all_axes = plt.subplots(panels, 1, figsize=(9, 2.3 * panels), sharex=True, layout="constrained")
    axes = list(all_axes)
    _draw_sizes(axes[0], periods)
    if has_ages:
        _draw_ages(axes[1], periods)
    if has_scores:
        _draw_scores(axes[-2], periods)
    costs = axes[-1]
    costs.plot(x, list(accumulate(p.cost_usd for p in periods)), color="#38618c")
    costs.set_ylabel("cost in dollars")
    costs.set_xlabel("period (dotted lines: the model changes)")
    costs.xaxis.get_major_locator().set_params(integer=True)
    for p, later in pairwise(periods):
        if p.model != later.model:
            for axis in axes:
                axis.axvline(later.number - 0.5, color="#888888", linestyle=":", linewidth=1)
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})


def _draw_sizes(axis: Any, periods: Sequence[Period]) -> None:
    x, anchors = [p.number for p in periods], [p.anchors for p in periods]
    axis.bar(x, anchors, color="#38618c", label="anchors")
    new = [p.questions - p.anchors for p in periods]
    axis.bar(x, new, bottom=anchors, color="#b9cbe0", label="other questions")
    for p in periods:
        axis.scatter(p.number, p.questions + 4, color=COLOURS[p.verdict], marker="s", s=26)
    axis.set_ylabel("questions")
    axis.legend(loc="lower right", ncols=2)
    title = "Questions per release. Squares: green is safe, red is risky, grey is unchanged"
    axis.set_title(title, loc="left", fontsize=10)


def _draw_ages(axis: Any, periods: Sequence[Period]) -> None:
    x = [p.number for p in periods]
    axis.plot(x, [max(p.anchor_ages, default=0) for p in periods], color="#38618c", label="oldest")
    means = [fmean(p.anchor_ages) if p.anchor_ages else 0 for p in periods]
    axis.plot(x, means, color="#c58a2d", label="mean")
    axis.set_ylabel("age of anchors")
    axis.set_ylim(0)
    axis.legend(loc="lower right", ncols=2)


def _draw_scores(axis: Any, periods: Sequence[Period]) -> None:
    known = [p for p in periods if p.since_first is not None and p.since_first_error is not None]
    x, values = [p.number for p in known], [p.since_first or 0.0 for p in known]
    errors = [1.96 * (p.since_first_error or 0.0) for p in known]
    low = [value - error for value, error in zip(values, errors, strict=True)]
    high = [value + error for value, error in zip(values, errors, strict=True)]
    axis.fill_between(x, low, high, color="#b9cbe0", linewidth=0)
    axis.plot(x, values, color="#38618c")
    axis.set_ylabel("equated gap")
    title = "Gap between women and men on the scale of the first release, minus its start (95 % band)"
    axis.set_title(title, loc="left", fontsize=10)


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate the year. The exit status is 1 if a change is missed or a period fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} periods")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--periods", type=int, help=f"number of refreshes; default: {PERIODS}")
    parser.add_argument("--minutes", type=float, help="start no refresh after this time")
    parser.add_argument("--image", type=Path, help="file for the picture, SVG")
    options = parser.parse_args(arguments)
    wanted = options.periods or (QUICK if options.quick else PERIODS)
    model = ScriptedModel()
    with tempfile.TemporaryDirectory() as home, OpenAIServer(model.answer, models=("target",)) as server:
        os.environ["COUNTERFOIL_HOME"] = home
        periods = simulate(wanted, server, model, Path(home), options.minutes)
    result = summarise(periods, wanted)
    if options.image:
        draw(periods, options.image)
    if options.json:
        print(json.dumps(result))
    else:
        print("| week | model | verdict | version | questions | anchors | oldest anchor | calls | dollars |")
        print("|---|---|---|---|---|---|---|---|---|")
        for p in periods:
            cells = [
                p.number,
                p.model,
                p.verdict,
                p.version,
                p.questions,
                p.anchors,
                max(p.anchor_ages, default=0),
            ]
            print(f"| {' | '.join(map(str, [*cells, p.calls, f'{p.cost_usd:.4f}']))} |")
        print({key: value for key, value in result.items() if key != "rows"})
    return int(result["changes_found"] != result["changes"])


if __name__ == "__main__":
    sys.exit(main())
