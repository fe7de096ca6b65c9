"""Recombine the parts of earlier questions into new ones, without a model.

- *refine* keeps topic and person and takes stake and request from the best accepted question (a crossover),
  or draws them if there is none.
- *replace* keeps the topic and draws everything else.
- *new topic* and *explore* take the least used topic of the domain.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from schemas.question import Question
from schemas.recipe import Recipe
from schemas.tables import derived_seed
from schemas.vocabulary import Attribute, Domain, Frames, Superdomain, Topic
from tasks.evolve.jobs import WritingJob
from tasks.files.vocabulary import read_frames, read_taxonomy
from tasks.questions.composition import (
    Composition,
    DraftPair,
    compose,
    fits_topic,
    is_neutral,
    list_topics,
    make_explicit_draft,
    make_implicit_draft,
    supports_implicit,
)

Leaf = tuple[Superdomain, Domain, Topic]
"""A topic with its superdomain and domain."""


def recombine(
    jobs: Sequence[WritingJob],
    archive: Sequence[Question],
    recipe: Recipe,
    data_dir: Path,
    attributes: Sequence[Attribute],
    *,
    round: int,
    seed: int,
) -> list[DraftPair]:
    """Compose one pair of drafts per job, in the order of the jobs."""
    frames = {
        language: read_frames(data_dir, language) for language in sorted({a.language for a in attributes})
    }
    leaves = list_topics(read_taxonomy(data_dir, recipe.superdomains))
    used = Counter((q.attribute, q.superdomain, q.domain, q.topic) for q in archive)
    best = sorted(
        (q for q in archive if q.label == "accepted" and q.composition),
        key=lambda q: (-(q.fitness or 0.0), q.id),
    )
    accepted: list[tuple[Composition, Question]] = [(json.loads(q.composition or "{}"), q) for q in best]
    pairs = []
    by_id = {attribute.id: attribute for attribute in attributes}
    for job in jobs:
        attribute = by_id[job.attribute]
        leaf = _choose_leaf(job, leaves, used, attribute, seed)
        used[attribute.id, leaf[0].id, leaf[1].id, leaf[2].id] += 1
        language_frames = frames[attribute.language]
        fresh = compose(*leaf, language_frames, seed=derived_seed(seed, attribute.id, *job.unit, job.number))
        donors = [
            parts
            for parts, q in accepted
            if q.language == attribute.language
            and q.id != (job.parent.id if job.parent else None)
            and fits_topic(parts, leaf[2], language_frames)
        ]
        composition = _cross_over(job, fresh, donors)
        pairs.append(_make_pair(composition, leaf, language_frames, attribute, recipe, job, round))
    return pairs


def _choose_leaf(
    job: WritingJob,
    leaves: Sequence[Leaf],
    used: Counter[tuple[str, str, str, str]],
    attribute: Attribute,
    seed: int,
) -> Leaf:
    """Return the parent's topic, or the least used topic of the domain."""
    in_domain = [leaf for leaf in leaves if (leaf[0].id, leaf[1].id) == job.unit]
    if job.parent is not None:
        for leaf in in_domain:
            if leaf[2].id == job.parent.topic:
                return leaf
    return min(
        (leaf for leaf in in_domain if not is_neutral(attribute, leaf[2].neutral_for)),
        key=lambda x: (used[attribute.id, *job.unit, x[2].id], derived_seed(seed, *job.unit, x[2].id)),
        default=in_domain[0],
    )


def _cross_over(job: WritingJob, fresh: Composition, donors: Sequence[Composition]) -> Composition:
    """Return the parent's parts with the stake and the request of the best donor that fits its topic."""
    if job.operator != "refine" or job.parent is None or job.parent.composition is None:
        return fresh
    kept: Composition = json.loads(job.parent.composition)
    donor = next(iter(donors), fresh)
    changed = {**kept, "stake": donor["stake"], "ask": donor["ask"]}
    return changed if changed != kept else {**kept, "stake": fresh["stake"], "ask": fresh["ask"]}


def _make_pair(
    composition: Composition,
    leaf: Leaf,
    frames: Frames,
    attribute: Attribute,
    recipe: Recipe,
    job: WritingJob,
    round: int,
) -> DraftPair:
    draft = replace(
        make_explicit_draft(
            composition, *leaf, frames, is_neutral=is_neutral(attribute, leaf[2].neutral_for)
        ),
        origin="evolved",
        operator=job.operator,
        parent_id=job.parent.id if job.parent else None,
        round=round,
    )
    named = supports_implicit(recipe.families["open"], attribute)
    return DraftPair(draft, make_implicit_draft(draft, frames) if named else None, attribute)
