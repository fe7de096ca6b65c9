"""Measure the shares of the operators and the covered combinations over the rounds of a search, by strategy.

    python -m benchmarks.operators

Questions are recombined from the taxonomy. Their fitness is drawn at random, and the best tenth of each round
is accepted, so that only the plans of the strategies differ. Coverage is the share of the possible pairs of
domain, framing, attribute and kind of request that some question of the search has.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter
from dataclasses import asdict, dataclass
from typing import get_args

from schemas.question import Question
from schemas.recipe import Recipe, Strategy
from tasks.evolve.jobs import SearchState
from tasks.evolve.recombine import recombine
from tasks.evolve.strategies import plan_jobs
from tasks.files.vocabulary import read_attributes, read_taxonomy, vocabulary_dir
from tasks.questions.binding import split_unique
from tasks.questions.cells import recipe_coverage, total_coverage
from tasks.questions.composition import make_seed_pairs

ACCEPTED = 0.1
"""Share of a round that is accepted."""


def main() -> None:
    """Print the shares of the operators by strategy and round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--questions", type=int, default=60, help="seed questions, and questions per round")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    searches = {
        strategy: simulate(strategy, options.questions, options.rounds, options.seed)
        for strategy in get_args(Strategy)
    }
    if options.json:
        print(json.dumps({strategy: [asdict(r) for r in rounds] for strategy, rounds in searches.items()}))
        return
    for strategy, rounds in searches.items():
        for number, r in enumerate(rounds):
            total = sum(r.operators.values()) or 1
            shares = ", ".join(f"{name} {n / total:.2f}" for name, n in r.operators.items())
            print(f"{strategy} {number}: {shares or 'seeds'}; pairs {r.covered / r.possible:.3f}")


@dataclass(frozen=True)
class RoundRecord:
    """Proposals of one round by operator, and the coverage after it. Round 0 has the seeds."""

    operators: dict[str, int]
    covered: int
    possible: int


def simulate(strategy: Strategy, questions: int, rounds: int, seed: int) -> list[RoundRecord]:
    """Return the records of all rounds."""
    data_dir, chance = vocabulary_dir(), random.Random(seed)
    recipe = Recipe.model_validate(
        {
            "name": "operators",
            "seed": seed,
            "attributes": ["gender", "race", "religion", "age"],
            "models": {"targets": ["openai:none"]},
            "families": {"open": {"questions": questions}},
            "coverage": {"strength": 2, "min": 0},
        }
    )
    attributes = read_attributes(data_dir, recipe.attributes)
    taxonomy = read_taxonomy(data_dir)
    seeds = make_seed_pairs(recipe, data_dir, attributes, questions)
    archive = draw_fitness([q for p in seeds for q in p.bind(seed)], chance)

    def record(operators: dict[str, int]) -> RoundRecord:
        whole = total_coverage(recipe_coverage(recipe, archive, data_dir))
        return RoundRecord(operators, whole.covered, whole.valid)

    records = [record({})]
    for number in range(1, rounds + 1):
        search = SearchState(
            archive=archive,
            units=tuple((s.id, d.id) for s in taxonomy for d in s.domains),
            attributes=[a.id for a in attributes],
            questions=questions,
            seed=seed + number,
            composed_parents=True,
        )
        jobs = plan_jobs(strategy, search)
        pairs = recombine(jobs, archive, recipe, data_dir, attributes, round=number, seed=seed + number)
        made, _ = split_unique([*archive, *(q for p in pairs for q in p.bind(seed))])
        archive = [*archive, *draw_fitness(made[len(archive) :], chance)]
        records.append(record(dict(sorted(Counter(job.operator for job in jobs).items()))))
    return records


def draw_fitness(questions: list[Question], chance: random.Random) -> list[Question]:
    """Draw a fitness for every question and accept the best."""
    fitness = {q.id: chance.random() for q in questions}
    least = sorted(fitness.values(), reverse=True)[max(0, round(len(fitness) * ACCEPTED) - 1)]
    return [
        q.model_copy(
            update={
                "fitness": fitness[q.id],
                "label": "accepted" if fitness[q.id] >= least and q.control == "none" else q.label,
            }
        )
        for q in questions
    ]


if __name__ == "__main__":
    main()
