"""Measure the decision of a refresh: false alarms of an unchanged model, and the power for a changed one.

    python -m benchmarks.refresh --decision [--quick] [--json]

Two releases with four slices (two attributes, two models) are simulated. Every slice has 100 common
questions, and 100 more in each release, or none, or as many as with `carry_over: 0.3`. The score of a
question is its own value plus noise. The reliability is the share of the variance that two measurements
share, so that it is their correlation. In one slice of the changed model every score is higher by .3 standard
deviations of the scores. The product's own functions compare the slices (`tasks.package.decide`).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from math import sqrt
from typing import Literal

import numpy as np

from schemas.question import Question, Variant, question_id
from schemas.recipe import Refresh
from tasks.package.decide import changed_slices, compare_slices, undecided_slices
from tasks.report.comparisons import Measured, QuestionScore, Scored

Shape = Literal["normal", "zero_inflated"]

ATTRIBUTES = ("gender", "age")
MODELS = ("openai:a", "openai:b")
FAMILY = "decision"
COMMON = 100
REST = 100
CARRIED_OVER = 233
"""Other questions of each release if 100 common ones are three tenths of it."""
SHIFT = 0.3
"""Planted change in standard deviations of the scores."""
REFRESHES = 200
RELIABILITIES = (0.5, 0.7, 0.8, 0.9)
REQUIRED = 0.8
"""Reliability from which on the targets hold. Gaps of eight sampled answers per value reach it if questions
differ as much as they do in practice."""
FALSE_ALARMS = 0.01
POWER = 0.8


@dataclass(frozen=True)
class Line:
    """One row of the result."""

    shape: Shape
    reliability: float
    common: int
    rest: int
    refreshes: int
    false_alarms: float
    """Share of refreshes of the unchanged model that are risky."""
    inconclusive: float
    """Share of refreshes of the unchanged model without a changed slice that are not decided."""
    power: float
    """Share of refreshes of the changed model in which the changed slice is named."""
    mc_error: float
    """Monte-Carlo error of the power."""
    ok: bool | None
    """Whether both targets are met. `None` below the required reliability."""


def make_question(number: int, attribute: str) -> Question:
    """Return a question without answers. Only its id and its attribute matter."""
    template = f"Question {number}?"
    values = ("one", "other")
    return Question(
        id=question_id(
            family=FAMILY,
            attribute=attribute,
            framing="explicit",
            control="none",
            template=template,
            values=values,
        ),
        family=FAMILY,
        attribute=attribute,
        framing="explicit",
        control="none",
        superdomain="work",
        domain="work",
        topic="work",
        language="en",
        template=template,
        values=values,
        variants=tuple(
            Variant(index=i, value=value, text=template, slots=()) for i, value in enumerate(values)
        ),
        options=(),
        origin="template",
        operator=None,
        parent_id=None,
        twin_id=None,
        template_id=None,
        composition=None,
        round=0,
        label="survey",
        fitness=None,
        holdout_effect=None,
        changed_in=None,
    )


QUESTIONS = {
    attribute: [make_question(n, attribute) for n in range(COMMON + 2 * CARRIED_OVER)]
    for attribute in ATTRIBUTES
}


def simulate_releases(
    seed: int, reliability: float, shape: Shape, shift: float = 0.0, rest: int = REST
) -> tuple[Scored, Scored]:
    """Simulate the scores of two releases.

    Args:
        seed: Seed of the draws.
        reliability: Correlation of two measurements of a question.
        shape: `zero_inflated` if two thirds of the questions show nothing.
        shift: Change of the first slice, in standard deviations.
        rest: Number of other questions in each release.
    """
    generator = np.random.default_rng([seed, round(100 * reliability), shape == "normal"])
    common = COMMON
    scores: tuple[list[QuestionScore], list[QuestionScore]] = [], []
    asked: tuple[dict[tuple[str, str, str], frozenset[str]], ...] = {}, {}
    for attribute in ATTRIBUTES:
        old, new = range(common + rest), [*range(common), *range(common + rest, common + 2 * rest)]
        for model in MODELS:
            own = generator.normal(size=common + 2 * rest) * sqrt(reliability)
            for side, numbers in enumerate((old, new)):
                values = own + generator.normal(size=len(own)) * sqrt(1 - reliability)
                if shape == "zero_inflated":
                    values = np.maximum(values - 0.43, 0.0)  # 0.43 is the upper tercile
                if side and (attribute, model) == (ATTRIBUTES[0], MODELS[0]):
                    values = values + shift * float(values.std())
                measured = Measured(FAMILY, attribute, "gap", "shares")
                questions = [QUESTIONS[attribute][n] for n in numbers]
                scores[side].extend(
                    QuestionScore(q, model, measured, float(values[n]))
                    for q, n in zip(questions, numbers, strict=True)
                )
                asked[side][FAMILY, attribute, model] = frozenset(q.id for q in questions)
    return Scored(tuple(scores[0]), asked[0]), Scored(tuple(scores[1]), asked[1])


@dataclass(frozen=True)
class Outcome:
    """What a refresh would report."""

    changed: frozenset[str]
    undecided: int


def refresh(old: Scored, new: Scored) -> Outcome:
    """Compare two simulated releases as a refresh does."""
    margin = Refresh().margin
    compared = compare_slices(old, new, margin)
    changed = changed_slices(compared, ())
    names = {item.subject for item in changed}
    return Outcome(frozenset(names), len(undecided_slices(compared, flagged=names)))


def measure_decision(
    refreshes: int, reliabilities: Iterable[float], shapes: Iterable[Shape], rest: int = REST
) -> list[Line]:
    """Simulate refreshes of an unchanged and of a changed model."""
    lines = []
    for shape in shapes:
        for reliability in reliabilities:
            same = [refresh(*simulate_releases(s, reliability, shape, rest=rest)) for s in range(refreshes)]
            other = [
                refresh(*simulate_releases(10_000 + s, reliability, shape, SHIFT, rest))
                for s in range(refreshes)
            ]
            alarms = float(np.mean([bool(o.changed or o.undecided) for o in same]))
            undecided = float(np.mean([bool(o.undecided and not o.changed) for o in same]))
            power = float(np.mean([f"gender · {FAMILY} · a" in o.changed for o in other]))
            error = sqrt(max(power * (1 - power), 1 / refreshes) / refreshes)
            ok = None
            if reliability >= REQUIRED and rest:
                ok = alarms <= FALSE_ALARMS and power >= POWER - 2 * error
            lines.append(
                Line(
                    shape, reliability, COMMON, rest, refreshes, alarms, undecided, power, round(error, 4), ok
                )
            )
    return lines


def print_lines(lines: Iterable[Line]) -> None:
    """Print one row per shape, number of other questions, and reliability."""
    print("shape          others  reliability  false alarms  inconclusive  power  ok")
    for line in lines:
        print(
            f"{line.shape:<14} {line.rest:>6}  {line.reliability:>11}  {line.false_alarms:>12.3f}  "
            f"{line.inconclusive:>12.3f}  {line.power:>5.2f}  {'' if line.ok is None else line.ok}"
        )


def main() -> int:
    """Run the benchmark. The exit code is 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--decision", action="store_true", help="measure the decision (the default)")
    parser.add_argument("--quick", action="store_true", help="fewer simulations, in less than a minute")
    parser.add_argument("--refreshes", type=int, default=REFRESHES, help="simulated refreshes per row")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    begun = time.monotonic()
    if options.quick:
        lines = measure_decision(60, (REQUIRED,), ("normal",))
    else:
        lines = measure_decision(options.refreshes, RELIABILITIES, ("normal", "zero_inflated"))
        for rest in (0, CARRIED_OVER):
            lines += measure_decision(options.refreshes, RELIABILITIES, ("normal",), rest)
    passed = all(line.ok is not False for line in lines)
    if options.json:
        seconds = round(time.monotonic() - begun, 1)
        print(
            json.dumps({"ok": passed, "seconds": seconds, "decision": [asdict(x) for x in lines]}, indent=1)
        )
    else:
        print_lines(lines)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
