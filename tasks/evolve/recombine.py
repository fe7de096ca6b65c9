"""A generator without a model: questions are put together anew from the parts of their parents.

- *refine* keeps a question's topic and person and takes stake and request from the best saved one (a
  crossover), or draws them anew where there is none;
- *replace* keeps the topic and draws everything else;
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
    all_topics,
    compose,
    draft_of,
    implicit_draft,
    wants_names,
)

Leaf = tuple[Superdomain, Domain, Topic]


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
    """One pair of drafts per job, in the order of the jobs."""
    frames = {
        language: read_frames(data_dir, language) for language in sorted({a.language for a in attributes})
    }
    leaves = all_topics(read_taxonomy(data_dir, recipe.superdomains))
    used = Counter((q.attribute, q.superdomain, q.domain, q.topic) for q in archive)
    saved = sorted(
        (q for q in archive if q.label == "accepted" and q.composition),
        key=lambda q: (-(q.fitness or 0.0), q.id),
    )
    pairs = []
    by_id = {attribute.id: attribute for attribute in attributes}
    for job in jobs:
        attribute = by_id[job.attribute]
        leaf = _leaf_of(job, leaves, used, attribute, seed)
        used[attribute.id, leaf[0].id, leaf[1].id, leaf[2].id] += 1
        words = frames[attribute.language]
        fresh = compose(leaf[0], leaf[2], words, seed=derived_seed(seed, attribute.id, *job.unit, job.number))
        composition = _from_parent(job, fresh, [q for q in saved if q.language == attribute.language])
        pairs.append(_pair(composition, leaf, words, attribute, recipe, job, round))
    return pairs


def _leaf_of(
    job: WritingJob,
    leaves: Sequence[Leaf],
    used: Counter[tuple[str, str, str, str]],
    attribute: Attribute,
    seed: int,
) -> Leaf:
    """The parent's topic where there is one, else the least used of the domain."""
    here = [leaf for leaf in leaves if (leaf[0].id, leaf[1].id) == job.unit]
    if job.parent is not None:
        for leaf in here:
            if leaf[2].id == job.parent.topic:
                return leaf
    return min(
        (leaf for leaf in here if {attribute.id, *attribute.factors}.isdisjoint(leaf[2].neutral_for)),
        key=lambda x: (used[attribute.id, *job.unit, x[2].id], derived_seed(seed, *job.unit, x[2].id)),
        default=here[0],
    )


def _from_parent(job: WritingJob, fresh: Composition, saved: Sequence[Question]) -> Composition:
    if job.operator != "refine" or job.parent is None or job.parent.composition is None:
        return fresh
    kept: Composition = json.loads(job.parent.composition)
    other = next((q for q in saved if q.id != job.parent.id and q.composition), None)
    donor: Composition = json.loads(other.composition) if other and other.composition else fresh
    changed = {**kept, "stake": donor["stake"], "ask": donor["ask"]}
    return changed if changed != kept else {**kept, "stake": fresh["stake"], "ask": fresh["ask"]}


def _pair(
    composition: Composition,
    leaf: Leaf,
    frames: Frames,
    attribute: Attribute,
    recipe: Recipe,
    job: WritingJob,
    round: int,
) -> DraftPair:
    draft = replace(
        draft_of(composition, *leaf, frames, attribute.id),
        origin="evolved",
        operator=job.operator,
        parent_id=job.parent.id if job.parent else None,
        round=round,
    )
    named = wants_names(recipe.families["open"], attribute)
    return DraftPair(draft, implicit_draft(draft, frames) if named else None, attribute)
