"""Read the subjects of a review from a run or a release: questions and relabelled passages.

Questions are read completely. Answers and judgements stay in Arrow, indexed by question, and only the
displayed rows become records. So the time per page does not depend on the number of questions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import ValidationError

from schemas.answers import JUDGEMENTS, PLAIN, RESPONSES, Judgement, Response
from schemas.errors import InputError
from schemas.labels import CANDIDATES, DROPPED, LABEL_HISTORY, Dropped, LabelChange, Passage
from schemas.question import QUESTIONS, SELECTED, Question
from schemas.recipe import Recipe, Review
from schemas.tables import R, Table
from tasks.release import (
    MANIFEST,
    QUESTION_CONFIGS,
    Contents,
    find_last_release,
    open_release,
    read_contents,
    read_manifest,
)
from tasks.review.answer_sample import GroupKey, SampledGroup, sample_answers
from tasks.run.journal import journal_path, read_journal
from tasks.run.store import Step

Kind = Literal["accepted", "hard_negative", "ambiguous", "reviewed_out", "control", "passage", "answers"]
KINDS: tuple[Kind, ...] = (
    "accepted",
    "hard_negative",
    "ambiguous",
    "reviewed_out",
    "passage",
    "answers",
    "control",
)
"""Kinds of subjects. `ambiguous`: dropped because relabelling could not decide. `reviewed_out`: dropped by
an earlier review."""

QUESTION_STAGES = ("assemble", "measure", "quarantine", "hold_back", "deduplicate")
"""Stages with the current questions of a run, latest first."""


class RowsByQuestion(Generic[R]):
    """The rows of a table, indexed by `question_id`."""

    def __init__(self, table: Table[R], rows: pa.Table) -> None:
        self._table, self._rows = table, rows
        ids = rows["question_id"].combine_chunks().dictionary_encode()
        codes = ids.indices.to_numpy(zero_copy_only=False)
        self._order = np.argsort(codes, kind="stable")
        edges = np.searchsorted(codes[self._order], np.arange(len(ids.dictionary) + 1))
        self._spans = {
            key: (int(edges[i]), int(edges[i + 1])) for i, key in enumerate(ids.dictionary.to_pylist())
        }

    def rows_of(self, question_id: str) -> list[R]:
        """Return the rows of one question, in table order."""
        start, end = self._spans.get(question_id, (0, 0))
        indices = self._order[start:end]
        if end - start and indices[-1] - indices[0] == end - start - 1:
            # The rows of a question are adjacent in a release. A slice copies nothing.
            rows = self._rows.slice(int(indices[0]), end - start)
        else:
            rows = self._rows.take(indices)
        return list(self._table.from_arrow(rows))


@dataclass(frozen=True)
class PassageCase:
    """A passage with a changed label, and its query."""

    change: LabelChange
    passage: Passage
    query: str
    positives: tuple[Passage, ...]
    """The other positives of the row after relabelling."""


@dataclass(frozen=True)
class ReviewSubjects:
    """All subjects of one benchmark."""

    benchmark: str
    version: str | None
    """Version of a release. `None` for a run."""
    overlap: float
    questions: Mapping[str, Question]
    kinds: Mapping[str, Kind]
    """By question id."""
    history: Mapping[str, Sequence[LabelChange]]
    """Label changes by question id."""
    passages: Mapping[tuple[str, str], PassageCase]
    """By (query id, passage id)."""
    responses: RowsByQuestion[Response] = field(repr=False)
    judgements: RowsByQuestion[Judgement] = field(repr=False)
    disagreement: Mapping[str, float]
    """By question id: range of the judges' mean fitness."""
    new: frozenset[str]
    """Ids of questions that the previous release does not contain. Empty without a previous release."""
    answers: Mapping[GroupKey, SampledGroup] = field(default_factory=dict)
    """Groups of answers by model and question, sampled ones and others. Empty without `review.answers`."""


def open_subjects(place: Path, releases: Path) -> ReviewSubjects:
    """Read the subjects of a run or a release.

    Args:
        place: Directory of the run or release.
        releases: Directory with earlier releases.

    Raises:
        InputError: If `place` is neither, or if the run has judged nothing yet.
    """
    if (place / MANIFEST).is_file():
        return _release_subjects(place)
    if journal_path(place).is_file():
        return _run_subjects(place, releases)
    raise InputError(
        f"{place} is neither a run nor a release",
        hint="give a directory such as data/runs/<name> or data/releases/<name>/<version>",
    )


def _release_subjects(place: Path) -> ReviewSubjects:
    release = open_release(place)
    manifest = release.manifest
    return _subjects(
        manifest.name,
        manifest.version,
        read_section(manifest.recipe.get("review", {})),
        release.contents,
        candidates=(),
        new=frozenset(manifest.comparison.added if manifest.comparison.old_version else ()),
    )


def read_section(section: Mapping[str, Any]) -> Review:
    """Return overlap and sample of a release's recipe. Defaults replace an invalid section."""
    used = {k: v for k, v in section.items() if k in ("overlap", "answers", "stratify")}
    try:
        return Review.model_validate(used)
    except ValidationError:
        return Review()


def _run_subjects(place: Path, releases: Path) -> ReviewSubjects:
    steps, own_release = read_journal(place)
    recipe = Recipe.model_validate_json((place / "recipe.json").read_bytes())
    contents = _run_contents(place, steps)
    before = find_last_release(releases, recipe.name)
    if before is None:
        new: frozenset[str] = frozenset()
    elif own_release is not None and Path(before.path).resolve() == own_release.resolve():
        compared = read_manifest(own_release).comparison
        new = frozenset(compared.added if compared.old_version else ())
    else:
        known = open_release(Path(before.path)).contents
        old = {key for config in QUESTION_CONFIGS for key in _ids(known.tables.get(config))}
        new = frozenset(key for config in QUESTION_CONFIGS for key in _ids(contents.tables.get(config))) - old
    candidates = [ref.path for step in steps for ref in step.tables if ref.table == CANDIDATES.name]
    return _subjects(recipe.name, None, recipe.review, contents, candidates=candidates, new=new)


def _run_contents(place: Path, steps: Sequence[Step]) -> Contents:
    """Collect the current questions of a run and all answers, judgements and label changes."""
    current = _current_steps(steps)
    if not current:
        raise InputError(
            "the run has nothing to review yet", place=str(place), hint="run the build again to resume it"
        )
    tables = dict(read_contents(current[0].tables).tables) if len(current) == 1 else {}
    tables.setdefault(QUESTIONS.name, _concatenate(current, QUESTIONS))
    for table in (DROPPED, RESPONSES, JUDGEMENTS, LABEL_HISTORY):
        tables[table.name] = _concatenate(steps, table)
    return Contents(tables)


def _current_steps(steps: Sequence[Step]) -> list[Step]:
    """Return the steps with the current questions.

    While a build waits for reviews, these are the relabelled `open` questions (before or after `mend`) and
    the templated questions, which only `mend` has processed.
    """
    latest = {step.stage: step for step in steps}
    complete = next((latest[stage] for stage in QUESTION_STAGES if stage in latest), None)
    if complete is not None or "relabel" not in latest:
        return [step for step in (complete, latest.get("select")) if step is not None][:1]
    mended = [step for step in steps if step.stage == "mend"]
    after = steps[steps.index(latest["relabel"]) :]
    return mended if latest.get("mend") in after else [*mended, latest["relabel"]]


def _concatenate(steps: Iterable[Step], table: Table[Any]) -> pa.Table:
    """Concatenate a table over all steps, keeping each key once. `gather` only copies rows of other steps."""
    refs = [ref for step in steps if step.stage != "gather" for ref in step.tables]
    paths = dict.fromkeys(ref.path for ref in refs if ref.table == table.name and ref.rows)
    parts = [pq.read_table(path) for path in paths]
    if not parts:
        return table.to_arrow([])
    joined = pa.concat_tables(parts, promote_options="default")
    _, first = np.unique(np.asarray(joined[table.key].to_pylist(), dtype=object), return_index=True)
    return joined.take(np.sort(first))


def _subjects(
    benchmark: str,
    version: str | None,
    section: Review,
    contents: Contents,
    *,
    candidates: Iterable[str],
    new: frozenset[str],
) -> ReviewSubjects:
    dropped = contents.rows(DROPPED)
    questions, kinds = _questions(contents, dropped)
    history: dict[str, list[LabelChange]] = defaultdict(list)
    changes = contents.rows(LABEL_HISTORY)
    for change in changes:
        if change.subject_kind == "question":
            history[change.subject_id].append(change)
    judgements = _of_plain_answers(contents.tables.get(JUDGEMENTS.name, JUDGEMENTS.to_arrow([])))
    return ReviewSubjects(
        benchmark=benchmark,
        version=version,
        overlap=section.overlap,
        questions=questions,
        kinds=kinds,
        history=history,
        passages=_passages(candidates, changes, dropped),
        responses=RowsByQuestion(RESPONSES, contents.tables.get(RESPONSES.name, RESPONSES.to_arrow([]))),
        judgements=RowsByQuestion(JUDGEMENTS, judgements),
        disagreement=judge_disagreement(judgements),
        new=new,
        answers=_sample(benchmark, section, questions, kinds, judgements),
    )


def _of_plain_answers(judgements: pa.Table) -> pa.Table:
    """Leave out judgements of answers under other prompts. Older ones do not name a condition."""
    if "condition" not in judgements.column_names:
        return judgements
    return judgements.filter(pc.equal(pc.fill_null(judgements["condition"], PLAIN), PLAIN))


def _sample(
    benchmark: str,
    section: Review,
    questions: Mapping[str, Question],
    kinds: Mapping[str, Kind],
    judgements: pa.Table,
) -> dict[GroupKey, SampledGroup]:
    """Draw the groups of answers to selected open questions that people score."""
    if not section.answers:
        return {}
    selected = {key: q for key, q in questions.items() if kinds[key] == "accepted" and q.family == "open"}
    return sample_answers(benchmark, selected, JUDGEMENTS.from_arrow(judgements), section)


def _questions(contents: Contents, dropped: Iterable[Dropped]) -> tuple[dict[str, Question], dict[str, Kind]]:
    """Return the questions of the release and the dropped ones that reviewers can restore."""
    questions: dict[str, Question] = {}
    kinds: dict[str, Kind] = {}
    for config in QUESTION_CONFIGS:
        rows = contents.tables.get(config)
        for question in QUESTIONS.from_arrow(rows) if rows is not None else ():
            if (kind := _kind(question)) is not None:
                questions[question.id], kinds[question.id] = question, kind
    for row in dropped:
        if row.kind == "question" and (row.stage == "review" or row.reason == "ambiguous"):
            question = Question.model_validate_json(row.record)
            kind = "reviewed_out" if row.stage == "review" else "ambiguous"
            kinds.setdefault(questions.setdefault(question.id, question).id, kind)
    return questions, kinds


def _kind(question: Question) -> Kind | None:
    if question.control != "none":
        return "control"
    if question.label in SELECTED:
        return "accepted"
    return "hard_negative" if question.label == "hard_negative" else None


def _passages(
    candidates: Iterable[str], changes: Iterable[LabelChange], dropped: Iterable[Dropped]
) -> dict[tuple[str, str], PassageCase]:
    """Return the relabelled passages. A release has none, because it does not contain the retrieval rows."""
    rows = {row.query_id: row for path in candidates for row in CANDIDATES.from_arrow(pq.read_table(path))}
    texts = {p.id: p for row in rows.values() for p in (*row.positives, *row.negatives)}
    removed = (Passage.model_validate_json(d.record) for d in dropped if d.kind == "passage") if rows else ()
    texts.update((p.id, p) for p in removed)
    cases = {}
    for change in changes:
        row, passage = rows.get(change.query_id), texts.get(change.subject_id)
        if change.subject_kind == "passage" and row is not None and passage is not None:
            positives = tuple(p for p in row.positives if p.id != passage.id)
            cases[change.query_id, passage.id] = PassageCase(change, passage, row.query, positives)
    return cases


def judge_disagreement(judgements: pa.Table) -> dict[str, float]:
    """Return the range of the judges' mean fitness by question, at most over forms and judged models.

    With a single judge, the range of its own judgements (orders, repeats) is used.
    """
    scored = judgements.filter(pc.is_valid(judgements["fitness"]))
    panel = ["question_id", "fitness_form", "target", "phase"]
    by_judge = scored.group_by([*panel, "judge"]).aggregate(
        [("fitness", "mean"), ("fitness", "min"), ("fitness", "max")]
    )
    by_panel = by_judge.group_by(panel).aggregate(
        [
            ("fitness_mean", "min"),
            ("fitness_mean", "max"),
            ("fitness_min", "min"),
            ("fitness_max", "max"),
            ("judge", "count"),
        ]
    )
    ranges: dict[str, float] = {}
    for row in by_panel.to_pylist():
        several = row["judge_count"] > 1
        low, high = (
            ("fitness_mean_min", "fitness_mean_max") if several else ("fitness_min_min", "fitness_max_max")
        )
        key = row["question_id"]
        ranges[key] = max(ranges.get(key, 0.0), row[high] - row[low])
    return ranges


def _ids(rows: pa.Table | None) -> list[str]:
    return rows["id"].to_pylist() if rows is not None else []
