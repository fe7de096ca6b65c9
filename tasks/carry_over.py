"""Stages of a refresh: carry questions of the last release over as anchors, and make room for them.

Anchors are asked again with the seeds of the new release, so that a changed model gives other answers. They
link the scores of both releases.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from math import floor
from pathlib import Path

from schemas.labels import Dropped, StageCounts
from schemas.notes import CarryOverNotes
from schemas.question import QUESTIONS, SELECTED, Question
from schemas.recipe import Recipe
from schemas.tables import derived_seed
from tasks.questions.quality import drop_question
from tasks.release import (
    ReleaseDirectory,
    ReleaseRef,
    find_earlier_release,
    open_release,
    parse_version,
)
from tasks.report import release_scores
from tasks.report.saturation import saturation_of
from tasks.run.store import Outcome, RunContext, Stage, TableRef, read_table
from tasks.stats.saturation import saturated_questions

ANCHOR_INSTEAD = "anchor_instead"
"""Reason of a new question that gives its place to an anchor."""
IS_ANCHOR = "repeats_anchor"
"""Reason of a new question that is an anchor itself."""
THIRDS = 3


def carry_over(context: RunContext, previous: ReleaseRef, suspects: Collection[str] = ()) -> Outcome:
    """Choose the anchors: a share of the last release's questions, in the form in which they are asked again.

    Args:
        context: Run context.
        previous: The last release.
        suspects: Ids of questions that a model knows by heart. They are not asked again.
    """
    release = open_release(Path(previous.path))
    asked = [q for q in release.contents.rows(QUESTIONS) if fits_recipe(q, context.recipe)]
    oldest = context.recipe.refresh.max_age
    ages = ages_of(release, oldest)
    old = {q.id for q in asked if ages[q.id] >= oldest}
    saturated = twice_saturated(release, Path(context.data_dir))
    eligible = [q for q in asked if q.id not in old | saturated | set(suspects)]
    wanted = context.recipe.refresh.carry_over * len(asked)
    share = min(1.0, wanted / len(eligible)) if eligible else 0.0
    anchors = draw_anchors(eligible, share, context.recipe.seed)
    ids = {q.id for q in anchors}
    rows = sorted((to_anchor(q, release, ids) for q in anchors), key=lambda q: q.id)
    counts = StageCounts(
        stage="carry_over", unit="questions", rows=len(rows), kept=len(rows), dropped=0, failed=0
    )
    notes = CarryOverNotes(
        version=release.manifest.version,
        questions=len(asked),
        anchors=len(rows),
        too_old=len(old),
        saturated=len(saturated & {q.id for q in asked}),
        suspected=sum(q.id in suspects for q in asked),
    )
    return Outcome(tables={QUESTIONS: rows}, counts=(counts,), notes=notes.to_json())


def fits_recipe(question: Question, recipe: Recipe) -> bool:
    """Return whether the recipe still asks such questions. Controls and rewordings are made anew."""
    family = recipe.families.get(question.family)
    if family is None or question.control != "none" or question.variant_of is not None:
        return False
    if question.attribute not in (family.attributes or recipe.attributes):
        return False
    drawn = question.family == "open" and question.origin != "imported"
    return not (drawn and recipe.superdomains and question.superdomain not in recipe.superdomains)


def ages_of(release: ReleaseDirectory, limit: int) -> dict[str, int]:
    """Return the number of successive versions that every question has been in, the last one included.

    A question that was retired and came back begins anew, so that a finite pool of questions does not run out
    of anchors. Corrections of texts count as the version that they correct.

    Args:
        release: The last release. The versions before it are read from the folder beside it. Without them,
            all versions since the first one with the question count.
        limit: Age from which on the exact number does not matter.
    """
    ages = {q.id: 1 for q in release.contents.rows(QUESTIONS)}
    staying, current, counted = set(ages), release, 1
    while staying and counted < limit:
        before = find_earlier_release(current)
        if before is None:
            if current.manifest.comparison.old_version is not None:
                ages |= {
                    q.id: max(ages[q.id], versions_since_first(q, release))
                    for q in release.contents.rows(QUESTIONS)
                    if q.id in staying
                }
            return ages
        is_patch = current.manifest.comparison.bump == "patch"
        staying &= {row["id"] for row in before.contents.records(QUESTIONS.name)}
        if not is_patch:
            ages |= {question: ages[question] + 1 for question in staying}
            counted += 1
        current = before
    return ages


def versions_since_first(question: Question, release: ReleaseDirectory) -> int:
    """Return the number of versions since the first one with a question, corrections of texts not counted."""
    version = release.manifest.version
    first = parse_version(question.released_in or version)
    history = release.manifest.history or (version,)
    return max(1, sum(parse_version(v) >= first for v in history))


def twice_saturated(release: ReleaseDirectory, data_dir: Path) -> set[str]:
    """Return the ids of the questions that tell no models apart in a release and in the one before.

    The set is empty if the release before is not in the folder beside it, or if too few models answered.
    """
    before = find_earlier_release(release)
    if before is None:
        return set()
    fits = [saturation_of(release_scores(r.manifest, r.contents, data_dir)) for r in (before, release)]
    return saturated_questions(*fits)


def draw_anchors(questions: Iterable[Question], share: float, seed: int) -> list[Question]:
    """Draw the same share of every attribute, superdomain and third of effect sizes, twins together.

    Labels do not matter. Confirmed questions are chosen by their fresh answers, so if only these were asked
    again, their effect would seem to shrink (regression to the mean).

    Args:
        questions: Questions to draw from.
        share: Share to draw, from 0 to 1. At least one is drawn if it is above 0.
        seed: Seed of the draw.
    """
    pairs: dict[str, list[Question]] = defaultdict(list)
    for q in questions:
        pairs[min(q.id, q.twin_id or q.id)].append(q)
    thirds = effect_thirds([pair[0] for pair in pairs.values()])

    def stratum(name: str) -> tuple[str, str, str, int, int]:
        first = pairs[name][0]
        place = first.family, first.attribute, first.superdomain
        return *place, thirds[first.id], derived_seed(seed, "anchor", name)

    ordered = sorted(pairs, key=stratum)
    start = derived_seed(seed, "first anchor") % 10_000 / 10_000
    chosen = [name for i, name in enumerate(ordered) if _step(start, share, i + 1) > _step(start, share, i)]
    if not chosen and ordered and share > 0:
        chosen = [ordered[derived_seed(seed, "only anchor") % len(ordered)]]
    return [q for name in chosen for q in pairs[name]]


def _step(start: float, share: float, number: int) -> int:
    """Return how many of the first units of a systematic sample are drawn."""
    return floor(start + share * number + 1e-9)


def effect_thirds(questions: Iterable[Question]) -> dict[str, int]:
    """Return the third of effect sizes (0 to 2) of every question, within family and attribute."""
    groups: dict[tuple[str, str], list[Question]] = defaultdict(list)
    for q in questions:
        groups[q.family, q.attribute].append(q)
    found: dict[str, int] = {}
    for inside in groups.values():
        ranked = sorted(inside, key=lambda q: (abs(q.holdout_effect or q.fitness or 0.0), q.id))
        found |= {q.id: THIRDS * i // len(ranked) for i, q in enumerate(ranked)}
    return found


def to_anchor(question: Question, release: ReleaseDirectory, anchors: Collection[str]) -> Question:
    """Return a released question as it enters the next build.

    Its hold-out effect stays until it is measured again, so that deduplication prefers it to a new question.
    """
    selected = question.label in SELECTED and question.label != "survey"
    return question.model_copy(
        update={
            "anchor": True,
            "released_in": question.released_in or release.manifest.version,
            "retired_in": None,
            "label": "accepted" if selected else question.label,
            "holdout_effect": question.holdout_effect or 0.0,
            "twin_id": question.twin_id if question.twin_id in anchors else None,
            "parent_id": question.parent_id if question.parent_id in anchors else None,
        }
    )


STAGE = Stage(
    "carry_over",
    4,
    run=carry_over,
    reads=("refresh", "families", "attributes", "superdomains", "selection"),
)


# Make room: new questions give their places to anchors, so that the release keeps its size.


def make_room(context: RunContext, questions: TableRef, anchors: TableRef, previous: ReleaseRef) -> Outcome:
    """Remove as many new questions as there are anchors, in every family and attribute.

    Repetitions of anchors go first, then questions of the last release that were retired, then others by
    seed. Controls stay.
    """
    fresh, carried = read_table(questions, QUESTIONS), read_table(anchors, QUESTIONS)
    last = open_release(Path(previous.path)).contents
    known = {id for (id,) in last.distinct_rows(QUESTIONS.name, "id")}
    kept, dropped = replace_by_anchors(fresh, carried, known, context.recipe.seed)
    counts = StageCounts(
        stage="make_room",
        unit="questions",
        rows=len(fresh),
        kept=len(kept),
        dropped=len(dropped),
        failed=0,
    )
    return Outcome(tables={QUESTIONS: kept}, counts=(counts,), dropped=tuple(dropped))


def replace_by_anchors(
    fresh: Sequence[Question], anchors: Sequence[Question], retired: Collection[str], seed: int
) -> tuple[list[Question], list[Dropped]]:
    """Return the new questions that stay, and dropped rows of the others.

    Args:
        fresh: New questions and controls.
        anchors: Questions that are carried over.
        retired: Ids of the last release's questions.
        seed: Seed of the draw.
    """
    carried = {q.id for q in anchors}
    places: dict[tuple[str, str], int] = defaultdict(int)
    for q in anchors:
        places[q.family, q.attribute] += 1
    pairs: dict[str, list[Question]] = defaultdict(list)
    for q in fresh:
        if q.control == "none":
            pairs[min(q.id, q.twin_id or q.id)].append(q)

    def order(name: str) -> tuple[bool, bool, int]:
        ids = {q.id for q in pairs[name]}
        return not ids & carried, not ids & set(retired), derived_seed(seed, "make room", name)

    lost: set[str] = set()
    for name in sorted(pairs, key=order):
        pair = pairs[name]
        place = pair[0].family, pair[0].attribute
        if places[place] > 0:
            lost |= {q.id for q in pair}
            places[place] -= len(pair)
    lost |= carried
    kept = [
        q.model_copy(update={"twin_id": None}) if q.twin_id in lost and q.control == "none" else q
        for q in fresh
        if q.id not in lost
    ]
    dropped = [
        drop_question(
            q,
            stage="make_room",
            reason=IS_ANCHOR if q.id in carried else ANCHOR_INSTEAD,
            because_of=q.id if q.id in carried else None,
        )
        for q in fresh
        if q.id in lost
    ]
    return kept, dropped


STAGE_ROOM = Stage("make_room", 1, run=make_room)
