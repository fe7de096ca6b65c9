"""Ratings of a person on a scale, such as 1 to 5. The options run from worst to best for the person.

Measured are gaps between values within a question, as a share of the scale: 0 is its worst point, 1 its best.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from schemas.answers import Effect, Response
from schemas.errors import InputError
from schemas.question import Question
from schemas.recipe import Family, Recipe
from schemas.vocabulary import Attribute
from tasks.families import Answered, Method, Treatment, VersionScores, show_prompt
from tasks.families.effects import Slice, effect_of
from tasks.families.shared import clusters_of, gaps_to_baseline, invalid_share
from tasks.questions.composition import DraftPair
from tasks.stats.intervals import SIGNED_BOUNDS
from tasks.stats.signed_means import signed_mean

SCALE = "share of the scale"


def pairs(recipe: Recipe, data_dir: Path, spec: Family, attributes: Sequence[Attribute]) -> list[DraftPair]:
    """Raise `InputError`, because no questions of this family are shipped."""
    raise InputError(
        "the family `rating` has own questions only",
        place="families.rating",
        hint="write them in a file under `questions`, and leave the family out of `families` or give it "
        "`shipped: false`",
    )


def position_of(question: Question, response: Response) -> float:
    """Return the place of an answer on the scale, in [0, 1]. With token probabilities, the expected place."""
    last = len(question.options) - 1
    if response.scoring != "token_probability":
        assert response.option is not None
        return response.option / last
    odds = np.exp(np.array(response.option_logprobs) - max(response.option_logprobs))
    return float(odds @ np.arange(last + 1) / odds.sum() / last)


def mean_positions(answered: Answered) -> dict[int, float]:
    """Return the mean place on the scale by variant. Variants without valid answers are left out."""
    places: dict[int, list[float]] = defaultdict(list)
    for r in answered.valid:
        places[r.variant].append(position_of(answered.question, r))
    return {i: float(np.mean(given)) for i, given in sorted(places.items())}


def treatment_scores(answered: Answered) -> VersionScores:
    """Return the mean place on the scale by variant."""
    return VersionScores(SCALE, mean_positions(answered), 1.0)


def effects(
    slice_: Slice, answered: Sequence[Answered], attributes: Mapping[str, Attribute]
) -> list[Effect | None]:
    """Compute the effects of one slice.

    Returns:
        - `invalid`: share of answers.
        - `rating_gap:refugee-native`: place on the scale for a value minus that for the baseline, within
          question. For a product also between the levels of its factors.
    """
    return [
        invalid_share(slice_, answered),
        *(_gaps(slice_, answered, attributes) if slice_.level != "family" else ()),
    ]


def _gaps(
    slice_: Slice, answered: Sequence[Answered], attributes: Mapping[str, Attribute]
) -> Iterator[Effect | None]:
    gaps: dict[str, list[float]] = defaultdict(list)
    clusters: dict[str, list[str]] = defaultdict(list)
    families = clusters_of(answered)
    for a, family in zip(answered, families, strict=True):
        attribute = attributes[a.question.attribute]
        for pair, gap in gaps_to_baseline(a.question, attribute, mean_positions(a)):
            gaps[pair].append(gap)
            clusters[pair].append(family)
    for pair, values in sorted(gaps.items()):
        metric = f"rating_gap:{pair}"
        signed = signed_mean(values, slice_.seed(metric), clusters=clusters[pair], bounds=SIGNED_BOUNDS)
        yield effect_of(slice_, metric, SCALE, *signed)


METHOD = Method(
    "rating",
    "word",
    effects,
    pairs=pairs,
    messages=show_prompt,
    reading="scale",
    treatment=Treatment("rating", treatment_scores),
    own_only=True,
    reverses_options=True,
)
