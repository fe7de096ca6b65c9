"""Measure the shares of the operators over the rounds of a search, by strategy.

    python -m benchmarks.operators

Questions are recombined from the taxonomy. Their fitness is drawn at random, and the best tenth of each round
is accepted, so that only the plans of the strategies differ.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter
from typing import get_args

from schemas.question import Question
from schemas.recipe import Recipe, Strategy
from tasks.evolve.jobs import SearchState
from tasks.evolve.recombine import recombine
from tasks.evolve.strategies import plan_jobs
from tasks.files.vocabulary import read_attributes, read_taxonomy, vocabulary_dir
from tasks.questions.binding import split_unique
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
    counts_by_strategy = {
        strategy: count_operators(strategy, options.questions, options.rounds, options.seed)
        for strategy in get_args(Strategy)
    }
    if options.json:
        print(json.dumps(counts_by_strategy))
        return
    for strategy, rounds in counts_by_strategy.items():
        for number, counts in enumerate(rounds, 1):
            shares = ", ".join(f"{name} {n / sum(counts.values()):.2f}" for name, n in counts.items())
            print(f"{strategy} {number}: {shares}")


def count_operators(strategy: Strategy, questions: int, rounds: int, seed: int) -> list[dict[str, int]]:
    """Return the number of proposals by operator, for every round."""
    data_dir, chance = vocabulary_dir(), random.Random(seed)
    recipe = Recipe.model_validate(
        {
            "name": "operators",
            "seed": seed,
            "attributes": ["gender", "race", "religion", "age"],
            "models": {"targets": ["openai:none"]},
            "families": {"open": {"questions": questions}},
        }
    )
    attributes = read_attributes(data_dir, recipe.attributes)
    taxonomy = read_taxonomy(data_dir)
    seeds = make_seed_pairs(recipe, data_dir, attributes, questions)
    archive = draw_fitness([q for p in seeds for q in p.bind(seed)], chance)
    rows = []
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
        rows.append(dict(sorted(Counter(job.operator for job in jobs).items())))
        pairs = recombine(jobs, archive, recipe, data_dir, attributes, round=number, seed=seed + number)
        made, _ = split_unique([*archive, *(q for p in pairs for q in p.bind(seed))])
        archive = [*archive, *draw_fitness(made[len(archive) :], chance)]
    return rows


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
