"""The deduplicate stage: keep the best question of every cluster of near-duplicates.

Questions are compared by their text outside the slots. Two questions can only be duplicates if they agree in
everything else that makes an instrument: attribute, values, slot contents, family, framing, control and
options. So a template that is filled for other values is no duplicate, and twins are never merged. All
variants of a question are kept or dropped together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from schemas.errors import InputError
from schemas.labels import Dropped, StageCounts
from schemas.notes import DeduplicationNotes, PairNote
from schemas.question import QUESTIONS, Question
from schemas.release import ClearOf
from tasks.deduplicate.rows import ColumnRoles, rows_to_units
from tasks.deduplicate.semantic import SemanticOptions
from tasks.files.tables import read_table_file
from tasks.models.settings import ModelSettings
from tasks.near_duplicates.units import Deduplication, Duplicate, Unit, find_duplicates
from tasks.questions.quality import drop_question
from tasks.release import CONTROLS, HARD_NEGATIVES, QUESTION_CONFIGS, open_release, read_manifest
from tasks.release.references import resolve_place
from tasks.run.parts import PartRunner, run_sequentially
from tasks.run.store import Outcome, RunContext, Stage, TableRef, read_table
from tasks.text.normalize import normalise_for_match
from tasks.text.slots import mask_slots, slot_columns

TWIN_KEPT = "_twin_kept"
"""Suffix of the reason if the same question in the other framing is kept."""
EXAMPLES = 10
"""Number of pairs on each side of the threshold in the notes of the step."""
DuplicateFinder = Callable[..., Deduplication]
"""`find_duplicates`, possibly with some options bound."""
REWORDED = frozenset({"entailment"})
"""Families that ask the same thing in several wordings on purpose. Only questions of one template can be
duplicates."""


def deduplicate(
    context: RunContext,
    questions: TableRef,
    content: Sequence[str] = (),
    *,
    run_parts: PartRunner = run_sequentially,
) -> Outcome:
    """Drop questions that duplicate each other or the sources in `deduplicate.against` of the recipe.

    Args:
        context: The run.
        questions: The questions to deduplicate.
        content: Hashes of the sources (`fingerprint_input`), which become part of the stage key.
        run_parts: Runs the parts of each job.
    """
    rows = read_table(questions, QUESTIONS)
    settings = context.recipe.deduplicate
    released, texts = read_earlier(resolve_place(place, context.hub_cache) for place in settings.against)
    work_dir = Path(context.run_dir)
    work_dir.mkdir(parents=True, exist_ok=True)
    find = partial(
        find_duplicates, run_parts=run_parts, work_dir=work_dir, second_search=semantic_options(context)
    )
    kept, dropped, comparison = drop_duplicates(
        rows,
        threshold=settings.threshold,
        released=released,
        texts=texts,
        find=find,
        protected={q.id for q in rows if context.recipe.is_survey and q.origin == "imported"},
    )
    clear_of = count_overlaps([*released, *texts], dropped)
    return Outcome(
        tables={QUESTIONS: kept},
        counts=(
            StageCounts(
                stage="deduplicate",
                unit="questions",
                rows=len(rows),
                kept=len(kept),
                dropped=len(dropped),
                failed=0,
            ),
        ),
        dropped=tuple(dropped),
        notes=describe_comparison(comparison, clear_of).to_json(),
    )


STAGE = Stage("deduplicate", 4, run=deduplicate, reads=("deduplicate", "selection"))


class DeduplicatedQuestions(NamedTuple):
    """The result of `drop_duplicates`."""

    kept: list[Question]
    dropped: list[Dropped]
    comparison: Deduplication
    """The comparison of the questions with each other and with released ones."""


def drop_duplicates(
    questions: Sequence[Question],
    *,
    threshold: float,
    released: Sequence[Unit] = (),
    texts: Sequence[Unit] = (),
    find: DuplicateFinder = find_duplicates,
    protected: Collection[str] = (),
) -> DeduplicatedQuestions:
    """Split questions into those to keep and those to drop.

    A question stays if only its twin is a duplicate.

    Args:
        questions: In any order.
        threshold: Minimum `ratio` of near-duplicates, from 0 to 100.
        released: Earlier questions.
        texts: Earlier texts. A question is dropped if one of its variants duplicates one of them.
        find: Finds the duplicates.
        protected: Ids of questions to keep unless they overlap `released` or `texts`. People wrote them, and
            their wordings may be similar on purpose.
    """
    comparison = find([question_to_unit(q) for q in questions], threshold=threshold, earlier=released)
    lost = {
        d.unit.id: d
        for d in comparison.dropped
        if d.unit.id not in protected or d.because_of.source is not None
    }
    remaining = [q for q in questions if q.id not in lost]
    lost |= find_overlaps(remaining, texts, threshold=threshold, find=find)
    kept = [_unlink_dropped_twin(q, lost) for q in questions if q.id not in lost]
    dropped = [_to_dropped(q, lost) for q in questions if q.id in lost]
    return DeduplicatedQuestions(kept, dropped, comparison)


def question_to_unit(question: Question, source: str | None = None) -> Unit:
    """Convert a question to a unit.

    The largest hold-out effect ranks first, then fitness, then the earliest round.
    """
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
        order=(_descending(question.holdout_effect), _descending(question.fitness), question.round),
        source=source,
    )


def _descending(value: float | None) -> float:
    return float("inf") if value is None else -value


def find_overlaps(
    questions: Sequence[Question],
    texts: Sequence[Unit],
    *,
    threshold: float,
    find: DuplicateFinder = find_duplicates,
) -> dict[str, Duplicate]:
    """Return by question id the variants that duplicate one of the texts.

    A text without the slot contents of the variant is a sibling of it, not a duplicate.
    """
    if not texts:
        return {}
    slots = {(q.id, v.text): v.slots for q in questions for v in q.variants}
    units = [Unit(id=name, text=text, guard=texts[0].guard) for name, text in slots]
    result = find(units, threshold=threshold, earlier=texts, mutual=False)
    return {
        d.unit.id: d
        for d in result.dropped
        if d.because_of.source is not None
        and all(
            normalise_for_match(slot) in normalise_for_match(d.because_of.text)
            for slot in slots[d.unit.id, d.unit.text]
        )
    }


def _unlink_dropped_twin(question: Question, lost: Mapping[str, Duplicate]) -> Question:
    """Remove the reference to a dropped twin. The record of the twin still references the question."""
    return question.model_copy(update={"twin_id": None}) if question.twin_id in lost else question


def _to_dropped(question: Question, lost: Mapping[str, Duplicate]) -> Dropped:
    duplicate = lost[question.id]
    twin_kept = question.twin_id is not None and question.twin_id not in lost
    return drop_question(
        question,
        stage="deduplicate",
        reason=duplicate.reason + (TWIN_KEPT if twin_kept else ""),
        because_of=duplicate.because_of.id,
        similarity=duplicate.similarity,
    )


def semantic_options(context: RunContext) -> SemanticOptions | None:
    """Return the options of the semantic search, or `None` if the recipe does not enable it."""
    semantic = context.recipe.deduplicate.semantic
    if semantic is None:
        return None
    return SemanticOptions(semantic.model, semantic.threshold, ModelSettings.of(context))


def describe_comparison(comparison: Deduplication, clear_of: Sequence[ClearOf]) -> DeduplicationNotes:
    """Return the overlaps and the pairs around the threshold by id.

    Texts are left out, because some questions may be held back.
    """
    return DeduplicationNotes(
        clear_of=tuple(clear_of),
        duplicate_ratio=round(comparison.duplicate_ratio, 6),
        least_similar=tuple(
            PairNote(id=d.unit.id, other=d.because_of.id, similarity=round(d.similarity, 2), kind=d.kind)
            for d in comparison.least_similar(EXAMPLES)
        ),
        near_misses=tuple(
            PairNote(id=m.unit.id, other=m.other.id, similarity=round(m.similarity, 2))
            for m in comparison.near_misses[:EXAMPLES]
        ),
    )


def count_overlaps(earlier: Iterable[Unit], dropped: Iterable[Dropped]) -> list[ClearOf]:
    """Count for each source the texts that were compared and the questions that overlapped."""
    reasons = Counter(d.reason.removesuffix(TWIN_KEPT) for d in dropped)
    compared = Counter(unit.source or "" for unit in earlier)
    return [
        ClearOf(name=name, compared=n, overlapping=reasons[f"overlaps:{name}"])
        for name, n in sorted(compared.items())
    ]


def read_earlier(places: Iterable[Path]) -> tuple[list[Unit], list[Unit]]:
    """Return the questions of release directories and the texts (column `text`) of files."""
    released: list[Unit] = []
    texts: list[Unit] = []
    for place in places:
        source = source_name(place)
        if place.is_dir():
            contents = open_release(place).contents
            for table in (QUESTIONS, HARD_NEGATIVES, CONTROLS):
                released += [question_to_unit(q, source) for q in contents.rows(table)]
        else:
            for file in find_earlier_files(place):
                rows = read_table_file(file)
                texts += rows_to_units(rows, ColumnRoles("text"), place=file, source=source)[0]
    return released, texts


def find_earlier_files(place: Path) -> list[Path]:
    """Return the file itself, or the question tables of a release directory.

    Raises:
        InputError: If there is neither.
    """
    files = [place]
    if place.is_dir():
        files = [f for c in QUESTION_CONFIGS for f in sorted((place / "data" / c).glob("*.parquet"))]
        files = files or sorted(place.glob("*.parquet"))
    if not files or not files[0].exists():
        raise InputError(
            f"{place} is neither a release nor a file",
            hint="give a file or a release directory. Download a published release first",
        )
    return files


def source_name(place: Path) -> str:
    """Return `name@version` of a release, or the name of any other file or folder without its path."""
    if (place / "manifest.json").is_file():
        manifest = read_manifest(place)
        return f"{manifest.name}@{manifest.version}"
    return place.name
