"""Earlier releases and files that something must stay clear of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from schemas.errors import InputError
from schemas.labels import Dropped, StageCounts
from schemas.question import QUESTIONS, Question
from schemas.release import ClearOf
from schemas.tables import canonical_json
from tasks.deduplicate.rows import Columns, rows_as_units
from tasks.deduplicate.semantic import SemanticOptions
from tasks.files.tables import read_table_file
from tasks.models.names import ModelSettings
from tasks.near_duplicates.pairs import Each, in_turn
from tasks.near_duplicates.units import Deduplication, Duplicate, Unit, find_duplicates
from tasks.questions.quality import drop_question
from tasks.release import CONTROLS, HARD_NEGATIVES, QUESTION_CONFIGS, open_release, read_manifest
from tasks.release.references import place_of
from tasks.run.store import Outcome, RunContext, Stage, TableRef, read_table
from tasks.text.normalize import normalise_for_match
from tasks.text.slots import mask_slots, slot_columns


def earlier_files(place: Path) -> list[Path]:
    """A file, or the question tables of a release. Raises `InputError` where there is neither."""
    files = [place]
    if place.is_dir():
        files = [f for c in QUESTION_CONFIGS for f in sorted((place / "data" / c).glob("*.parquet"))]
        files = files or sorted(place.glob("*.parquet"))
    if not files or not files[0].exists():
        raise InputError(
            f"there is no release or file {place}",
            hint="give a file, or the directory of a release; download a published one first",
        )
    return files


def source_name(place: Path) -> str:
    """`name@version` of a release, the name of any other file or folder; never its path."""
    if (place / "manifest.json").is_file():
        manifest = read_manifest(place)
        return f"{manifest.name}@{manifest.version}"
    return place.name


# Deduplicate: the best of every cluster of near-duplicates stays; a group is kept or dropped as one.
#
# Questions are compared by their text outside the slots, and only where everything that makes them another
# instrument is equal: attribute, values, what stands in the slots, family, framing, control, options. So a
# template that is filled for other values is never taken for a duplicate, and twins are never merged.


TWIN_KEPT = "_twin_kept"
"""What a reason ends in where the same question in the other framing stays."""
EXAMPLES = 10
"""Pairs on either side of the threshold that a step notes."""
Find = Callable[..., Deduplication]
"""`find_duplicates`, or the same with some of its options."""
REWORDED = frozenset({"entailment"})
"""Families that say one thing in several wordings to see whether the wording matters: only the same template
can be a duplicate there."""


def drop_duplicates(
    questions: Sequence[Question],
    *,
    threshold: float,
    released: Sequence[Unit] = (),
    texts: Sequence[Unit] = (),
    find: Find = find_duplicates,
) -> Deduplicated:
    """Questions that stay, and those that go. `released`: earlier questions; `texts`: earlier texts, of
    which no variant may be a duplicate. A twin whose other framing goes stays, if it is no duplicate."""
    among = find([question_unit(q) for q in questions], threshold=threshold, earlier=released)
    lost = {d.unit.id: d for d in among.dropped}
    lost |= overlapping([q for q in questions if q.id not in lost], texts, threshold=threshold, find=find)
    kept = [_without_lost_twin(q, lost) for q in questions if q.id not in lost]
    return Deduplicated(kept, [_dropped(q, lost) for q in questions if q.id in lost], among)


class Deduplicated(NamedTuple):
    """Questions that stay, questions that go, and how those compared that went into it."""

    kept: list[Question]
    dropped: list[Dropped]
    among: Deduplication


def question_unit(question: Question, source: str | None = None) -> Unit:
    """A question as what it is compared by. Best: the greatest effect, then fitness, then the oldest."""
    columns = {tuple(option.casefold() for option in column) for column in slot_columns(question.template)}
    options = [(normalise_for_match(option.text), option.role) for option in question.options]
    return Unit(
        id=question.id,
        text=mask_slots(question.template),
        guard=(
            question.family,
            question.attribute,
            question.language,
            question.framing,
            question.control,
            question.values,
            tuple(sorted(columns)),
            tuple(options),
            question.template_id if question.family in REWORDED else None,
        ),
        order=(_greatest_first(question.holdout_effect), _greatest_first(question.fitness), question.round),
        source=source,
    )


def overlapping(
    questions: Sequence[Question], texts: Sequence[Unit], *, threshold: float, find: Find = find_duplicates
) -> dict[str, Duplicate]:
    """By id the questions of which a variant is a duplicate of one of the texts. A text that lacks what
    stands in the variant's slots is a sibling of it, not a duplicate."""
    if not texts:
        return {}
    slots = {(q.id, v.text): v.slots for q in questions for v in q.variants}
    units = [Unit(id=name, text=text, guard=texts[0].guard) for name, text in slots]
    found = find(units, threshold=threshold, earlier=texts, among=False)
    return {
        d.unit.id: d
        for d in found.dropped
        if d.because_of.source is not None
        and all(
            normalise_for_match(slot) in normalise_for_match(d.because_of.text)
            for slot in slots[d.unit.id, d.unit.text]
        )
    }


def read_earlier(places: Iterable[Path]) -> tuple[list[Unit], list[Unit]]:
    """Questions of earlier releases (directories), and texts of earlier files (their column `text`)."""
    released: list[Unit] = []
    texts: list[Unit] = []
    for place in places:
        if place.is_dir():
            contents = open_release(place).contents
            for table in (QUESTIONS, HARD_NEGATIVES, CONTROLS):
                released += [question_unit(q, source_name(place)) for q in contents.rows(table)]
        else:
            source = source_name(place)
            for file in earlier_files(place):
                texts += rows_as_units(read_table_file(file), Columns("text"), place=file, source=source)[0]
    return released, texts


def _greatest_first(value: float | None) -> float:
    return float("inf") if value is None else -value


def _without_lost_twin(question: Question, lost: Mapping[str, Duplicate]) -> Question:
    """The dropped twin's record still names this question; this one no longer points at what is not there."""
    return question.model_copy(update={"twin_id": None}) if question.twin_id in lost else question


def _dropped(question: Question, lost: Mapping[str, Duplicate]) -> Dropped:
    duplicate = lost[question.id]
    twin_stays = question.twin_id is not None and question.twin_id not in lost
    return drop_question(
        question,
        stage="deduplicate",
        reason=duplicate.reason + (TWIN_KEPT if twin_stays else ""),
        because_of=duplicate.because_of.id,
        similarity=duplicate.similarity,
    )


def deduplicate(
    context: RunContext, questions: TableRef, content: Sequence[str] = (), *, each: Each = in_turn
) -> Outcome:
    """Questions that are duplicates neither of each other nor of what the recipe stays clear of.

    `content` are the hashes of what stands under `deduplicate.against` (`fingerprint_input`): they are part
    of the stage key, so that another content is another step. `each` does the parts of the work.
    """
    asked = read_table(questions, QUESTIONS)
    settings = context.recipe.deduplicate
    released, texts = read_earlier(place_of(place, context.hub_cache) for place in settings.against)
    room = Path(context.run_dir)
    room.mkdir(parents=True, exist_ok=True)
    find = partial(find_duplicates, each=each, room=room, then=semantic_options(context))
    kept, dropped, among = drop_duplicates(
        asked, threshold=settings.threshold, released=released, texts=texts, find=find
    )
    clear_of = kept_clear_of([*released, *texts], dropped)
    return Outcome(
        tables={QUESTIONS: kept},
        counts=(
            StageCounts(
                stage="deduplicate",
                unit="questions",
                rows=len(asked),
                kept=len(kept),
                dropped=len(dropped),
                failed=0,
            ),
        ),
        dropped=tuple(dropped),
        notes=canonical_json({"clear_of": [c.model_dump() for c in clear_of], **pairs_to_look_at(among)}),
    )


def semantic_options(context: RunContext) -> SemanticOptions | None:
    """The second search, where the recipe asks for it."""
    semantic = context.recipe.deduplicate.semantic
    if semantic is None:
        return None
    return SemanticOptions(semantic.model, semantic.threshold, ModelSettings.of(context))


def pairs_to_look_at(found: Deduplication) -> dict[str, object]:
    """Pairs around the threshold, by their ids: some of these questions may be kept private, so nothing of
    what they say is told."""
    merged = [
        {"id": d.unit.id, "other": d.because_of.id, "similarity": round(d.similarity, 2), "kind": d.kind}
        for d in found.least_similar(EXAMPLES)
    ]
    missed = [
        {"id": m.unit.id, "other": m.other.id, "similarity": round(m.similarity, 2)}
        for m in found.near_misses[:EXAMPLES]
    ]
    return {
        "duplicate_ratio": round(found.duplicate_ratio, 6),
        "least_similar": merged,
        "near_misses": missed,
    }


def kept_clear_of(earlier: Iterable[Unit], dropped: Iterable[Dropped]) -> list[ClearOf]:
    """What the questions were compared with, and how many of them stood in it."""
    lost = Counter(d.reason.removesuffix(TWIN_KEPT) for d in dropped)
    compared = Counter(unit.source or "" for unit in earlier)
    return [
        ClearOf(name=name, compared=n, overlapping=lost[f"overlaps:{name}"])
        for name, n in sorted(compared.items())
    ]


STAGE = Stage("deduplicate", 3, run=deduplicate, reads=("deduplicate",))
