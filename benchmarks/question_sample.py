"""Draw a sample of questions by family for a human reader.

    python -m benchmarks.question_sample --seed 11

Each question is shown in one variant, chosen by seed, as a model sees it. docs/quality.md has the guide for
readers and their verdicts on one sample.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator

from schemas.recipe import FAMILIES, Recipe
from tasks.expand import make_family_pairs
from tasks.families import method_of
from tasks.files.vocabulary import read_attributes, vocabulary_dir
from tasks.questions.composition import DraftPair, draw_pairs

ATTRIBUTES = (
    *("gender", "race", "religion", "age", "disability", "nationality", "socioeconomic"),
    *("sexual_orientation", "body_size", "belief"),
)
OWN_ATTRIBUTES = {
    "completion": ("beauty", "youth", "institution", "country_income", "beauty_gender", "youth_gender"),
    "task_accuracy": ("names_gender", "names_race"),
    "dialect": ("dialect-de",),
    "autocomplete": ("groups_religion", "groups_race", "groups_age", "groups_gender"),
    "persona": ("persona",),
    "description_pair": ("youth", "gender", "disability", "religion"),
}
SHARES = {"open": 0.33, "decision": 0.15, "completion": 0.13, "entailment": 0.07}
"""Share of the sample of each family. The others divide the rest."""
POOL = 1500
"""Composed questions to draw from."""


def main() -> None:
    """Print a sample as numbered lines, or as JSON Lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--count", type=int, default=200, help="number of questions")
    parser.add_argument("--json", action="store_true", help="print JSON Lines")
    options = parser.parse_args()
    for number, (family, text) in enumerate(draw_sample(options.count, options.seed), 1):
        row = {"number": number, "family": family, "text": text}
        print(json.dumps(row, ensure_ascii=False) if options.json else f"{number}. [{family}] {text}")


def draw_sample(count: int, seed: int) -> Iterator[tuple[str, str]]:
    """Yield the family and text of `count` questions."""
    # Families of the user's questions and files have no questions of their own.
    families = [f for f in FAMILIES if not (method_of(f).reads_files or method_of(f).own_only)]
    others = [family for family in families if family not in SHARES]
    sizes = {family: round(count * share) for family, share in SHARES.items()}
    rest = count - sum(sizes.values())
    for i, family in enumerate(others):
        sizes[family] = rest // len(others) + (i < rest % len(others))
    for family in families:
        rng = random.Random(f"{seed}/{family}")
        pairs = draw_pairs(draft_pairs(family, seed), 0, seed)
        for pair in rng.sample(pairs, min(sizes[family], len(pairs))):
            yield family, variant_text(pair, rng, seed)


def draft_pairs(family: str, seed: int) -> list[DraftPair]:
    """Return the drafts of a family with the attributes of a broad study."""
    recipe = Recipe.model_validate(
        {
            "name": "sample",
            "seed": seed,
            "attributes": OWN_ATTRIBUTES.get(family, ATTRIBUTES),
            "models": {"targets": ["openai:none"]},
            "families": {
                family: {"questions": POOL if family == "open" else 0, "framings": ["explicit", "implicit"]}
            },
        }
    )
    data_dir = vocabulary_dir()
    attributes = read_attributes(data_dir, recipe.attributes)
    pairs = make_family_pairs(recipe, data_dir, family, recipe.families[family], attributes)
    return [pair for pair in pairs if not pair.explicit.neutral]


def variant_text(pair: DraftPair, rng: random.Random, seed: int) -> str:
    """Return one variant of a pair, in one of its framings, with its options."""
    question = rng.choice(pair.bind(seed))
    text = rng.choice(question.variants).text
    options = " / ".join(option.text for option in question.options)
    return f"{text} ({options})" if options else text


if __name__ == "__main__":
    main()
