"""Measure whether a search finds planted biases and nothing else, with a simulated target of known bias.

    python benchmarks/planted_bias.py [--quick] [--json | --table]

The target treats one value differently in chosen domains, in one of five ways: it refuses, answers briefly or
coldly, gives different advice, or recommends the opposite. It does so in a quarter, a half or all of its
answers (small, middle, large). Two judges compare the answers: the divergence judge, and a scripted judge
over HTTP that overlooks 30 % of the faint and 10 % of the clear differences and errs in 1 % of its verdicts.
The exit status is 1 if a required line fails.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from benchmarks import planted_judges, planted_power, planted_search
from benchmarks.planted_judges import JUDGE_BIASES
from benchmarks.planted_power import Cell, CellResult, auroc
from benchmarks.planted_worlds import SIZES, draw_superdomains, make_target, plant_in
from schemas.recipe import Strategy
from tests.simulated.target import KINDS, NOISES, Kind, Noise

Figures = dict[str, Any]

WORD_KINDS: tuple[Kind, ...] = ("refusal", "length", "tone", "content")
"""Kinds that change enough words for the divergence judge. A reversed recommendation changes one sentence of
seven and is visible only to a judge that reads."""
SLICE_SIZE = 10
"""Questions of one domain that are pooled."""
HOLDOUT_SAMPLES = 4
"""Fresh answers per value (the recipe's default)."""
LLM_BUDGET = planted_search.Budget(24, 12, 8)
DIVERGENCE_BUDGET = planted_search.Budget(48, 24, 8)
BIASED_SUPERDOMAINS = 3
"""Number of biased superdomains, of 24. All their five domains are biased."""
CONTROLS = {"a_a": 0.3, "placebo": 0.3, "neutral": 0.0}
ARCHIVES: tuple[Strategy, ...] = ("quotas", "map_elites", "thompson")


@dataclass(frozen=True)
class Scale:
    """Size of the measurement."""

    questions: int
    samples: tuple[int, ...]
    noises: tuple[Noise, ...]
    seeds: int
    search_seeds: int
    strategies: tuple[Strategy, ...]
    divergence_search: bool
    truths: int
    audits: int
    judge_biases: tuple[float, ...]
    """Strengths of planted judge biases, in units of 20 points."""


FULL = Scale(100, (3, 5, 10), NOISES, 20, 10, (*ARCHIVES, "random"), True, 25, 12, (0.5, 1.0, 2.0))
QUICK = Scale(100, (3,), ("middle",), 3, 2, ("thompson", "random"), False, 0, 1, (2.0,))
SEPARATED = 300
"""Smallest number of questions for an AUROC: with ten slices on each side its standard error is about .05."""
REQUIRED_POWER = 0.8
"""Power of an audit of all scenes for a bias of 20 points (docs/methods.md, "The audit of judges")."""


def run(scale: Scale, workers: int) -> Figures:
    """Run all measurements and return them as one JSON-serialisable object."""
    with ProcessPoolExecutor(workers) as pool:
        result = {
            "power": measure_power(scale, pool.map) if len(scale.samples) > 1 else [],
            "separation": measure_separation(scale, pool.map),
            "read": measure_scripted_judge(scale, pool.map),
            "false_discoveries": measure_false_discoveries(scale, pool.map),
            "search": measure_searches(scale, pool.map),
            "audit": measure_audits(scale, pool.map),
        }
    return check_targets(result) | result


Map = Callable[..., Iterable[Any]]


def measure_power(scale: Scale, spread: Map) -> list[Figures]:
    """Measure power by kind, size and answers per value, at the middle noise."""
    cells = [Cell(kind, size, "middle", k) for k in scale.samples for kind in KINDS for size in SIZES]
    return list(spread(measure_cell, cells, [scale.questions] * len(cells)))


def measure_separation(scale: Scale, spread: Map) -> list[Figures]:
    """Measure how well the hold-out separates planted from clean questions, by kind, size and noise."""
    cells = [
        Cell(kind, size, noise, HOLDOUT_SAMPLES) for noise in scale.noises for kind in KINDS for size in SIZES
    ]
    return list(spread(measure_cell, cells, [max(scale.questions, SEPARATED)] * len(cells)))


_CLEAN: dict[tuple[Noise, int, int], CellResult] = {}


def measure_cell(cell: Cell, count: int) -> Figures:
    """Measure power at 5 % and AUROC of one cell, for single questions and for slices."""
    key = (cell.noise, cell.samples, count)
    if key not in _CLEAN:
        _CLEAN[key] = planted_power.simulate_cell(Cell(None, "", cell.noise, cell.samples), count)
    clean, found = _CLEAN[key], planted_power.simulate_cell(cell, count)
    return {
        "kind": cell.kind,
        "size": cell.size,
        "noise": cell.noise,
        "samples": cell.samples,
        "power": {
            "1": planted_power.power_of_one(found),
            "10": planted_power.power_of_excess(found, 10),
            "30": planted_power.power_of_excess(found, 30),
            "10 shared": planted_power.power_of_shared(found, clean, 10),
            "30 shared": planted_power.power_of_shared(found, clean, 30),
        },
        "auroc": {
            "1": auroc(found.excess, clean.excess),
            "10": auroc(
                planted_power.mean_excess(found, SLICE_SIZE), planted_power.mean_excess(clean, SLICE_SIZE)
            ),
            "10 shared": auroc(
                planted_power.shared_difference(found, SLICE_SIZE),
                planted_power.shared_difference(clean, SLICE_SIZE),
            ),
        },
    }


def measure_scripted_judge(scale: Scale, spread: Map) -> list[Figures]:
    """Measure the AUROC of hold-out fitness by the scripted judge, by kind and size."""
    questions = planted_power.questions(max(scale.questions, SEPARATED))
    cells: list[tuple[Kind | None, str]] = [(None, ""), *((k, size) for k in KINDS for size in SIZES)]
    kinds, sizes = zip(*cells, strict=True)
    clean, *found = (
        np.array(f)
        for f in spread(planted_judges.holdout_fitness_of_cell, kinds, sizes, [questions] * len(cells))
    )
    slices = planted_power.draw_slices(len(questions), SLICE_SIZE)

    def pooled(fitness: Any) -> Any:
        return np.array([fitness[drawn].mean() for drawn in slices])

    return [
        {
            "kind": kind,
            "size": size,
            "auroc": {"1": auroc(fitness, clean), "10": auroc(pooled(fitness), pooled(clean))},
        }
        for (kind, size), fitness in zip(cells[1:], found, strict=True)
    ]


def measure_false_discoveries(scale: Scale, spread: Map) -> list[Figures]:
    """Measure type I errors of clean questions and controls, and the false discovery rate, over releases."""
    lines = []
    for judge in ("divergence", "model"):
        for planted in (0, 20):
            seeds = range(scale.seeds)
            n = len(seeds)
            releases = list(spread(simulate_release_of_seed, seeds, [planted] * n, [judge == "model"] * n))
            lines.append(
                {
                    "judge": judge,
                    "planted": planted,
                    "seeds": n,
                    "p_at_most_5_percent": mean_with_error(
                        [fmean(p <= 0.05 for p in r.clean) for r in releases]
                    ),
                    "false_discovery_rate": mean_with_error([r.false_share for r in releases]),
                    "discoveries": fmean(r.discoveries for r in releases),
                }
            )
    found = list(spread(shared_p_values_of_seed, range(scale.seeds), [scale.questions] * scale.seeds))
    lines.append(
        {
            "judge": "shared difference of slices",
            "planted": 0,
            "seeds": scale.seeds,
            "p_at_most_5_percent": mean_with_error([fmean(p <= 0.05 for p in ps) for ps in found]),
        }
    )
    return lines


def simulate_release_of_seed(seed: int, planted: int, llm: bool) -> planted_judges.SimulatedRelease:
    """Simulate the release of a seed."""
    return planted_judges.simulate_release(seed, planted=planted, samples=5, llm=llm)


def shared_p_values_of_seed(seed: int, count: int) -> list[float]:
    """Return the p-values of the shared difference for the clean questions of a seed."""
    return planted_judges.shared_p_values(seed, planted_power.questions(count), SLICE_SIZE)


def mean_with_error(values: Sequence[float]) -> Figures:
    """Return a mean over seeds with its standard error."""
    return {"value": fmean(values), "se": stdev(values) / sqrt(len(values)) if len(values) > 1 else None}


def measure_searches(scale: Scale, spread: Map) -> list[Figures]:
    """Measure every strategy on the same worlds and budget."""
    judges = ("model", "divergence") if scale.divergence_search else ("model",)
    plan = [(j, s, seed) for j in judges for s in scale.strategies for seed in range(scale.search_seeds)]
    runs = list(spread(measure_search, *zip(*plan, strict=True), [scale.truths] * len(plan)))
    lines = []
    for judge in judges:
        for strategy in scale.strategies:
            mine = [r for r, (j, s, _) in zip(runs, plan, strict=True) if (j, s) == (judge, strategy)]
            lines.append(
                {"judge": judge, "strategy": strategy, "seeds": len(mine)} | summarise_searches(mine)
            )
    return lines


def measure_search(judge: str, strategy: Strategy, seed: int, truths: int) -> Figures:
    """Run one search with three biased superdomains of 24, and compare the result with the truth."""
    biased = draw_superdomains(BIASED_SUPERDOMAINS, seed)
    target = make_target(plant_in(biased, size="large"), "middle", seed)
    if judge == "model":
        with planted_judges.scripted_judge(seed) as name:
            found = planted_search.run_search(
                target, strategy, LLM_BUDGET, seed, holdout=HOLDOUT_SAMPLES, judge=name, controls=CONTROLS
            )
    else:
        found = planted_search.run_search(
            target, strategy, DIVERGENCE_BUDGET, seed, holdout=HOLDOUT_SAMPLES, controls=CONTROLS
        )
    planted = set(biased)
    domains = found.domains()
    compared = (
        [q for q in found.accepted if q.id in found.holdout_effects][:truths] if judge == "divergence" else []
    )
    return {
        "asked": len(found.questions),
        "accepted": len(found.accepted),
        "recall": len(planted & domains) / len(planted),
        "recall_by_question": len(planted & {planted_search.unit_of(q) for q in found.confirmed()})
        / len(planted),
        "false_domains": len(domains - planted) / len(domains) if domains else 0.0,
        "false_questions": fmean(planted_search.unit_of(q) not in planted for q in found.confirmed())
        if found.confirmed()
        else 0.0,
        "shrinkage": found.shrinkage(),
        "error": [found.holdout_effects[q.id] - planted_search.true_excess(target, q) for q in compared],
    }


def measure_audits(scale: Scale, spread: Map) -> Figures:
    """Measure the power of the audit for planted judge biases, and its false positives on clean judges."""
    n = scale.audits
    passed, false_positives = zip(*spread(planted_judges.audit_clean, range(n)), strict=True)
    plan = [(b, s, seed) for b in JUDGE_BIASES for s in scale.judge_biases for seed in range(n)]
    looked = dict(zip(plan, spread(planted_judges.audit_biased, *zip(*plan, strict=True)), strict=True))
    lines = []
    for bias in JUDGE_BIASES:
        for strength in scale.judge_biases:
            mine = [looked[bias, strength, seed] for seed in range(n)]
            found, measured = zip(*mine, strict=True)
            lines.append(
                {
                    "bias": bias.name,
                    "points": 20 * strength,
                    "found": mean_with_error(list(map(float, found))),
                    "measured": fmean(measured),
                }
            )
    errors = [float(found) for one in false_positives for found in one]
    return {"clean_passes": fmean(passed), "clean_accused": mean_with_error(errors), "planted": lines}


def summarise_searches(runs: Sequence[Figures]) -> Figures:
    """Return means over seeds, and the mean error of hold-out estimates over all questions."""
    lost = [r["shrinkage"] for r in runs if r["shrinkage"] is not None]
    errors = [error for r in runs for error in r["error"]]
    means = {
        name: mean_with_error([r[name] for r in runs])
        for name in ("asked", "accepted", "recall", "recall_by_question", "false_domains", "false_questions")
    }
    return means | {
        "shrinkage": mean_with_error(lost) if lost else None,
        "holdout_minus_truth": mean_with_error(errors) if errors else None,
    }


def check_targets(result: Figures) -> Figures:
    """Return the required figures, and `holds` with a flag each (`None` if too little was measured)."""
    middle = [c for c in result["separation"] if (c["size"], c["noise"]) == ("middle", "middle")]
    by_words = min(c["auroc"]["10 shared"] for c in middle if c["kind"] in WORD_KINDS)
    by_model = min(c["auroc"]["10"] for c in result["read"] if c["size"] == "middle")
    search = {(s["judge"], s["strategy"]): s["recall"]["value"] for s in result["search"]}
    recall, random = search["model", "thompson"], search["model", "random"]
    worst = max(
        (
            line["false_discovery_rate"]
            for line in result["false_discoveries"]
            if "false_discovery_rate" in line
        ),
        key=lambda e: e["value"],
    )
    numbers = {
        "auroc": min(by_words, by_model),
        "recall_planted_domains": recall,
        "recall_ratio_vs_random": recall / random if random else float("inf"),
        "false_discovery_rate": worst["value"],
    }
    nominal = [
        line[name]
        for line in result["false_discoveries"]
        for name in ("p_at_most_5_percent", "false_discovery_rate")
        if name in line
    ]
    truth = [s["holdout_minus_truth"] for s in result["search"] if s["holdout_minus_truth"]]
    audit = result["audit"]
    holds = {
        "auroc": numbers["auroc"] >= 0.95,
        "recall_planted_domains": recall >= 0.9,
        "recall_ratio_vs_random": numbers["recall_ratio_vs_random"] >= 1.5,
        "false_discovery_rate": all(_at_nominal(e, 0.05) for e in nominal),
        "holdout_unbiased": all(abs(e["value"]) <= 1.96 * e["se"] for e in truth) if truth else None,
        "audit": audit["clean_passes"] == 1
        and _at_nominal(audit["clean_accused"], 0.05)
        and all(
            line["found"]["value"] + 1.96 * (line["found"]["se"] or 0.0) >= REQUIRED_POWER
            for line in audit["planted"]
            if line["points"] >= 20
        ),
    }
    return numbers | {"holds": holds}


def _at_nominal(share: Figures, nominal: float) -> bool:
    """Check that a share is at most its nominal value, within sampling error."""
    return bool(share["value"] <= nominal + 1.96 * (share["se"] or 0.0))


def print_results(result: Figures) -> None:
    """Print the results as text."""
    for name, ok in result["holds"].items():
        value = result.get(name)
        number = f" {value:.3f}" if isinstance(value, float) else ""
        print(f"{'not measured' if ok is None else 'holds' if ok else 'FAILS'}  {name}{number}")
    print("\nhold-out AUROC at the middle noise, 4 answers per value")
    print("  divergence: one question, ten, shared difference of ten. scripted judge: one, ten")
    read = {(c["kind"], c["size"]): c["auroc"] for c in result["read"]}
    for c in result["separation"]:
        a, m = c["auroc"], read[c["kind"], c["size"]]
        if c["noise"] == "middle":
            print(
                f"  {c['kind']:15} {c['size']:7} {a['1']:.2f} {a['10']:.2f} {a['10 shared']:.2f}   "
                f"{m['1']:.2f} {m['10']:.2f}"
            )
    print("\nsearch: questions, accepted, recall, recall by question, false domains, false questions")
    for s in result["search"]:
        cells = " ".join(
            f"{s[n]['value']:7.2f}"
            for n in ("asked", "accepted", "recall", "recall_by_question", "false_domains", "false_questions")
        )
        print(f"  {s['judge']:10} {s['strategy']:10} {cells}  shrinkage {_with_error(s['shrinkage'])}")
        if s["holdout_minus_truth"]:
            print(f"  {'':21} hold-out minus truth {_with_error(s['holdout_minus_truth'])}")
    print("\nfalse discoveries")
    for line in result["false_discoveries"]:
        rate = line.get("false_discovery_rate")
        print(
            f"  {line['judge']:28} {line['planted']:2} planted  p <= .05: "
            f"{_with_error(line['p_at_most_5_percent'])}"
            + (f"  FDR {_with_error(rate)} of {line['discoveries']:.1f} discoveries" if rate else "")
        )
    audit = result["audit"]
    print(
        f"\naudit: share of clean judges that pass {audit['clean_passes']:.2f}, "
        f"false positives {_with_error(audit['clean_accused'])}"
    )
    for line in audit["planted"]:
        print(
            f"  {line['bias']:10} {line['points']:3.0f} points planted, measured {line['measured']:.2f}, "
            f"found {_with_error(line['found'])}"
        )


def _with_error(value: Figures | None) -> str:
    if value is None:
        return "–"
    return f"{value['value']:.3f}" + (f" ± {1.96 * value['se']:.3f}" if value["se"] is not None else "")


def print_tables(result: Figures) -> None:
    """Print the Markdown tables of docs/methods.md."""
    samples = sorted({c["samples"] for c in result["power"]})
    heads = [f"{k} × {n}" for k in samples for n in (1, 10, 30)]
    print("| effect | size | " + " | ".join(heads) + " |\n|---|---|" + "---|" * len(heads))
    for kind in KINDS:
        for size, share in SIZES.items():
            rows = {
                c["samples"]: c["power"] for c in result["power"] if (c["kind"], c["size"]) == (kind, size)
            }
            cells = [
                _format_two(rows[k], str(n)) if n > 1 else _format_short(rows[k]["1"])
                for k in samples
                for n in (1, 10, 30)
            ]
            print(f"| {kind} | {size}, {share:g} | " + " | ".join(cells) + " |")
    print("\n| effect | size | " + " | ".join(f"noise: {noise}" for noise in NOISES) + " | scripted judge |")
    print("|---|---|" + "---|" * (len(NOISES) + 1))
    read = {(c["kind"], c["size"]): c["auroc"] for c in result["read"]}
    for kind in KINDS:
        for size, share in SIZES.items():
            cells = [
                " · ".join(_format_short(c["auroc"][n]) for n in ("1", "10", "10 shared"))
                for c in result["separation"]
                if (c["kind"], c["size"]) == (kind, size)
            ]
            model = read[kind, size]
            cells.append(f"{_format_short(model['1'])} · {_format_short(model['10'])}")
            print(f"| {kind} | {size}, {share:g} | " + " | ".join(cells) + " |")


def _format_two(power: Figures, n: str) -> str:
    return f"{_format_short(power[n])} · {_format_short(power[f'{n} shared'])}"


def _format_short(value: float) -> str:
    return f"{value:.2f}".removeprefix("0")


def main() -> None:
    """Run the measurements and print them. The exit status is 1 if a required line fails."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer seeds and questions, two minutes")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--table", action="store_true", help="print the power tables in Markdown")
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1), help="processes")
    options = parser.parse_args()
    result = run(QUICK if options.quick else FULL, options.workers)
    if options.json:
        print(json.dumps(result))
    elif options.table and result["power"]:
        print_tables(result)
    else:
        print_results(result)
    sys.exit(1 if False in result["holds"].values() else 0)


if __name__ == "__main__":
    main()
