"""Deduplicate: the best of every cluster of near-duplicates stays; a group is kept or dropped as one.

Questions are compared by their text outside the slots, and only where everything that makes them another
instrument is equal: attribute, values, what stands in the slots, family, framing, control, options. So a
template that is filled for other values is never taken for a duplicate, and twins are never merged.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from schemas.decision import Dropped, StageCounts
from schemas.errors import InputError
from schemas.ids import canonical_json
from schemas.manifest import ClearOf
from schemas.question import QUESTIONS, Question
from tasks.formats.table_file import read_table_file
from tasks.formats.text_rows import Columns, rows_as_units
from tasks.release.configs import CONTROLS, HARD_NEGATIVES, QUESTION_CONFIGS
from tasks.release.fetching import place_of
from tasks.release.reading import open_release, read_manifest
from tasks.store import Outcome, RunContext, Stage, TableRef, read_table
from tasks.text.dropping import drop_question
from tasks.text.duplicates import Deduplication, Duplicate, Unit, find_duplicates
from tasks.text.normalize import normalise_for_match
from tasks.text.slots import mask_slots, slot_columns

NO_TEXT = "no_text"
"""Reason for rows whose text is absent or blank: they are kept apart, never compared."""
TWIN_KEPT = "_twin_kept"
"""What a reason ends in where the same question in the other framing stays."""
VERDICT = pa.struct([("because_of", pa.string()), ("similarity", pa.float64()), ("reason", pa.string())])
"""The columns that dropped.parquet has beside those of the input."""
REWORDED = frozenset({"entailment"})
"""Families that say one thing in several wordings to see whether the wording matters: only the same template
can be a duplicate there."""


def drop_duplicates(
    questions: Sequence[Question],
    *,
    threshold: float,
    released: Sequence[Unit] = (),
    texts: Sequence[Unit] = (),
) -> tuple[list[Question], list[Dropped]]:
    """Questions that stay, and those that go. `released`: earlier questions; `texts`: earlier texts, of
    which no variant may be a duplicate. A twin whose other framing goes stays, if it is no duplicate."""
    among = find_duplicates([question_unit(q) for q in questions], threshold=threshold, earlier=released)
    lost = {d.unit.id: d for d in among.dropped}
    lost |= overlapping([q for q in questions if q.id not in lost], texts, threshold=threshold)
    kept = [_without_lost_twin(q, lost) for q in questions if q.id not in lost]
    return kept, [_dropped(q, lost) for q in questions if q.id in lost]


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
    questions: Sequence[Question], texts: Sequence[Unit], *, threshold: float
) -> dict[str, Duplicate]:
    """By id the questions of which a variant is a duplicate of one of the texts. A text that lacks what
    stands in the variant's slots is a sibling of it, not a duplicate."""
    if not texts:
        return {}
    slots = {(q.id, v.text): v.slots for q in questions for v in q.variants}
    units = [Unit(id=name, text=text, guard=texts[0].guard) for name, text in slots]
    found = find_duplicates(units, threshold=threshold, earlier=texts)
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
                released += [question_unit(q, _source_name(place)) for q in contents.rows(table)]
        else:
            texts += _units_of(place, Columns("text"))
    return released, texts


def deduplicate_file(
    input: Path,
    *,
    text: str,
    slots: Sequence[str] = (),
    group: str | None = None,
    rank: str | None = None,
    threshold: float = 90.0,
    against: Sequence[Path] = (),
    out: Path,
) -> dict[str, object]:
    """Deduplicate a Parquet, JSON lines or CSV file; write `out/kept.parquet` and `out/dropped.parquet`.

    `threshold` is a rapidfuzz `ratio` (0 to 100]. Raises `InputError` for what cannot be read.
    """
    started = time.perf_counter()
    table = read_table_file(input)
    taken = sorted({column.name for column in VERDICT} & set(table.column_names))
    if taken:
        raise InputError(
            f"{input.name} has a column {taken[0]!r}, which dropped.parquet needs for itself",
            place=str(input),
            hint="rename the column",
        )
    columns = Columns(text, tuple(slots), group, rank)
    units, without_text = rows_as_units(table, columns, place=input)
    earlier = [unit for place in against for unit in _units_of(place, columns)]
    found = find_duplicates(units, threshold=threshold, earlier=earlier)
    kept, dropped = split_rows(table, found, without_text)
    out.mkdir(parents=True, exist_ok=True)
    _write_parquet(out / "kept.parquet", kept)
    _write_parquet(out / "dropped.parquet", dropped)
    return {
        "rows": table.num_rows,
        "kept": kept.num_rows,
        "dropped": dropped.num_rows,
        "clusters": len(found.clusters),
        "pairs_verified": found.pairs_verified,
        "reasons": dict(sorted(Counter(dropped["reason"].to_pylist()).items())),
        "seconds": round(time.perf_counter() - started, 3),
    }


def split_rows(
    table: pa.Table, found: Deduplication, without_text: Sequence[int]
) -> tuple[pa.Table, pa.Table]:
    """The rows that stay, and those that go with why; both in the order of the table."""
    verdicts: dict[int, tuple[str | None, float | None, str]] = dict.fromkeys(
        without_text, (None, None, NO_TEXT)
    )
    for d in found.dropped:
        verdicts |= dict.fromkeys(d.unit.rows, (d.because_of.id, d.similarity, d.reason))
    goes = pa.array([row in verdicts for row in range(table.num_rows)])
    dropped = table.filter(goes)
    reasons = pa.array([verdicts[row] for row in sorted(verdicts)], VERDICT)
    for column in VERDICT:
        dropped = dropped.append_column(column.name, reasons.field(column.name))
    return table.filter(pc.invert(goes)), dropped


def _units_of(place: Path, columns: Columns) -> list[Unit]:
    """The rows of an earlier file, or of the question tables of an earlier release."""
    files = [place]
    if place.is_dir():
        files = [f for c in QUESTION_CONFIGS for f in sorted((place / "data" / c).glob("*.parquet"))]
        files = files or sorted(place.glob("*.parquet"))
    if not files or not files[0].exists():
        raise InputError(
            f"there is no release or file {place}",
            hint="give a file, or the directory of a release; download a published one first",
        )
    source = _source_name(place)
    return [u for f in files for u in rows_as_units(read_table_file(f), columns, place=f, source=source)[0]]


def _source_name(place: Path) -> str:
    """`name@version` of a release, the name of any other file or folder; never its path."""
    if (place / "manifest.json").is_file():
        manifest = read_manifest(place)
        return f"{manifest.name}@{manifest.version}"
    return place.name


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


def _write_parquet(path: Path, table: pa.Table) -> None:
    temporary = path.with_name(f".{path.name}.part")
    try:
        pq.write_table(table, temporary, compression="zstd")
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def deduplicate(context: RunContext, questions: TableRef, content: Sequence[str] = ()) -> Outcome:
    """Questions that are duplicates neither of each other nor of what the recipe stays clear of.

    `content` are the hashes of what stands under `deduplicate.against` (`fingerprint_input`): they are part
    of the stage key, so that another content is another step.
    """
    asked = read_table(questions, QUESTIONS)
    settings = context.recipe.deduplicate
    released, texts = read_earlier(place_of(place, context.hub_cache) for place in settings.against)
    kept, dropped = drop_duplicates(asked, threshold=settings.threshold, released=released, texts=texts)
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
        notes=canonical_json({"clear_of": [c.model_dump() for c in clear_of]}),
    )


def kept_clear_of(earlier: Iterable[Unit], dropped: Iterable[Dropped]) -> list[ClearOf]:
    """What the questions were compared with, and how many of them stood in it."""
    lost = Counter(d.reason.removesuffix(TWIN_KEPT) for d in dropped)
    compared = Counter(unit.source or "" for unit in earlier)
    return [
        ClearOf(name=name, compared=n, overlapping=lost[f"overlaps:{name}"])
        for name, n in sorted(compared.items())
    ]


STAGE = Stage("deduplicate", 2, run=deduplicate, reads=("deduplicate",))
