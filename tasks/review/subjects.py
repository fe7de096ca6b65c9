"""What there is to review: the groups and the relabelled passages of a run or of a release.

Questions are read whole. Answers and verdicts stay in Arrow, indexed by question, and become rows when a
group is looked at: among 10,000 groups a page costs what one group costs.
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

from schemas.answers import JUDGEMENTS, RESPONSES, Judgement, Response
from schemas.errors import InputError
from schemas.labels import CANDIDATES, DROPPED, LABEL_HISTORY, Dropped, LabelChange, Passage
from schemas.question import QUESTIONS, Question
from schemas.recipe import Recipe, Review
from schemas.tables import R, Table
from tasks.release import (
    MANIFEST,
    QUESTION_CONFIGS,
    Contents,
    contents_of,
    last_release,
    open_release,
    read_manifest,
)
from tasks.run.journal import journal_path, read_journal
from tasks.run.store import Step

Kind = Literal["accepted", "hard_negative", "ambiguous", "reviewed_out", "control", "passage"]
KINDS: tuple[Kind, ...] = ("accepted", "hard_negative", "ambiguous", "reviewed_out", "passage", "control")
"""`ambiguous`: relabelling could not tell and dropped it; `reviewed_out`: dropped by an earlier review."""

STANDING = ("assemble", "measure", "quarantine", "hold_back", "deduplicate")
"""Stages whose questions are the run's so far, the latest first."""


class RowsByQuestion(Generic[R]):
    """A table's rows, found by `question_id`, in the table's order."""

    def __init__(self, table: Table[R], rows: pa.Table) -> None:
        self._table, self._rows = table, rows
        ids = rows["question_id"].combine_chunks().dictionary_encode()
        codes = ids.indices.to_numpy(zero_copy_only=False)
        self._order = np.argsort(codes, kind="stable")
        edges = np.searchsorted(codes[self._order], np.arange(len(ids.dictionary) + 1))
        self._spans = {
            key: (int(edges[i]), int(edges[i + 1])) for i, key in enumerate(ids.dictionary.to_pylist())
        }

    def of(self, question_id: str) -> list[R]:
        start, end = self._spans.get(question_id, (0, 0))
        places = self._order[start:end]
        if end - start and places[-1] - places[0] == end - start - 1:
            found = self._rows.slice(int(places[0]), end - start)  # a release's rows stand together
        else:
            found = self._rows.take(places)
        return list(self._table.from_arrow(found))


@dataclass(frozen=True)
class PassageCase:
    """A passage whose label relabelling changed, with the query it was retrieved for."""

    change: LabelChange
    passage: Passage
    query: str
    positives: tuple[Passage, ...]
    """The row's positives as relabelling left them, without this passage."""


@dataclass(frozen=True)
class ReviewMaterial:
    """All that one benchmark puts before its reviewers."""

    benchmark: str
    version: str | None
    """Of a release; a run has none yet."""
    overlap: float
    questions: Mapping[str, Question]
    kinds: Mapping[str, Kind]
    """By question id."""
    history: Mapping[str, Sequence[LabelChange]]
    """What became of questions' labels, by question id."""
    passages: Mapping[tuple[str, str], PassageCase]
    """By (query id, passage id)."""
    responses: RowsByQuestion[Response] = field(repr=False)
    judgements: RowsByQuestion[Judgement] = field(repr=False)
    disagreement: Mapping[str, float]
    """How far apart the judges of a question are at most: range of their mean fitness."""
    new: frozenset[str]
    """Questions that the release before did not have; empty where there is none before."""


def open_material(place: Path, releases: Path) -> ReviewMaterial:
    """The material of a run directory or a release directory; `releases` is where earlier ones are.

    Raises `InputError` for any other place, and for a run that has judged nothing yet.
    """
    if (place / MANIFEST).is_file():
        return _of_release(place)
    if journal_path(place).is_file():
        return _of_run(place, releases)
    raise InputError(
        f"{place} is neither a run nor a release",
        hint="runs are in data/runs/<name>, releases in data/releases/<name>/<version>",
    )


def _of_release(place: Path) -> ReviewMaterial:
    release = open_release(place)
    manifest = release.manifest
    section = manifest.recipe.get("review", {})
    return _material(
        manifest.name,
        manifest.version,
        Review.model_validate(section).overlap,
        release.contents,
        candidates=(),
        new=frozenset(manifest.comparison.added if manifest.comparison.old_version else ()),
    )


def _of_run(place: Path, releases: Path) -> ReviewMaterial:
    steps, own_release = read_journal(place)
    recipe = Recipe.model_validate_json((place / "recipe.json").read_bytes())
    contents = _contents_of_run(place, steps)
    before = last_release(releases, recipe.name)
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
    return _material(recipe.name, None, recipe.review.overlap, contents, candidates=candidates, new=new)


def _contents_of_run(place: Path, steps: Sequence[Step]) -> Contents:
    """The questions as assembled, or before that where they stand, and all that was said of them."""
    standing = _standing(steps)
    if not standing:
        raise InputError(
            "this run has nothing to review yet", place=str(place), hint="build the recipe again: it resumes"
        )
    own = dict(contents_of(standing[0].tables).tables) if len(standing) == 1 else {}
    own.setdefault(QUESTIONS.name, _joined(standing, QUESTIONS))
    for table in (DROPPED, RESPONSES, JUDGEMENTS, LABEL_HISTORY):
        own[table.name] = _joined(steps, table)
    return Contents(own)


def _standing(steps: Sequence[Step]) -> list[Step]:
    """The steps whose questions are the run's now. A run that waits for reviews has what was searched for and
    relabelled, mended or not yet, and beside it the templated questions, which only `mend` has touched."""
    latest = {step.stage: step for step in steps}
    whole = next((latest[stage] for stage in STANDING if stage in latest), None)
    if whole is not None or "relabel" not in latest:
        return [step for step in (whole, latest.get("select")) if step is not None][:1]
    mended = [step for step in steps if step.stage == "mend"]
    after = steps[steps.index(latest["relabel"]) :]
    return mended if latest.get("mend") in after else [*mended, latest["relabel"]]


def _joined(steps: Iterable[Step], table: Table[Any]) -> pa.Table:
    """That table of every step as one, each key once. What `gather` has stands elsewhere as well."""
    made = [ref for step in steps if step.stage != "gather" for ref in step.tables]
    paths = dict.fromkeys(ref.path for ref in made if ref.table == table.name and ref.rows)
    parts = [pq.read_table(path) for path in paths]
    if not parts:
        return table.to_arrow([])
    whole = pa.concat_tables(parts, promote_options="default")
    _, first = np.unique(np.asarray(whole[table.key].to_pylist(), dtype=object), return_index=True)
    return whole.take(np.sort(first))


def _material(
    benchmark: str,
    version: str | None,
    overlap: float,
    contents: Contents,
    *,
    candidates: Iterable[str],
    new: frozenset[str],
) -> ReviewMaterial:
    dropped = contents.rows(DROPPED)
    questions, kinds = _questions(contents, dropped)
    history: dict[str, list[LabelChange]] = defaultdict(list)
    changes = contents.rows(LABEL_HISTORY)
    for change in changes:
        if change.subject_kind == "question":
            history[change.subject_id].append(change)
    judgements = contents.tables.get(JUDGEMENTS.name, JUDGEMENTS.to_arrow([]))
    return ReviewMaterial(
        benchmark=benchmark,
        version=version,
        overlap=overlap,
        questions=questions,
        kinds=kinds,
        history=history,
        passages=_passages(candidates, changes, dropped),
        responses=RowsByQuestion(RESPONSES, contents.tables.get(RESPONSES.name, RESPONSES.to_arrow([]))),
        judgements=RowsByQuestion(JUDGEMENTS, judgements),
        disagreement=judges_apart(judgements),
        new=new,
    )


def _questions(contents: Contents, dropped: Iterable[Dropped]) -> tuple[dict[str, Question], dict[str, Kind]]:
    """Questions that a release has or would have, and those that only people can settle."""
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
    return question.label if question.label in ("accepted", "hard_negative") else None


def _passages(
    candidates: Iterable[str], changes: Iterable[LabelChange], dropped: Iterable[Dropped]
) -> dict[tuple[str, str], PassageCase]:
    """Changed passages whose query is known: in a release, which has no retrieval rows, there are none."""
    rows = {row.query_id: row for path in candidates for row in CANDIDATES.from_arrow(pq.read_table(path))}
    texts = {p.id: p for row in rows.values() for p in (*row.positives, *row.negatives)}
    lost = (Passage.model_validate_json(d.record) for d in dropped if d.kind == "passage") if rows else ()
    texts.update((p.id, p) for p in lost)
    cases = {}
    for change in changes:
        row, passage = rows.get(change.query_id), texts.get(change.subject_id)
        if change.subject_kind == "passage" and row is not None and passage is not None:
            positives = tuple(p for p in row.positives if p.id != passage.id)
            cases[change.query_id, passage.id] = PassageCase(change, passage, row.query, positives)
    return cases


def judges_apart(judgements: pa.Table) -> dict[str, float]:
    """By question: the range of its judges' mean fitness, the widest over forms and judged models. With one
    judge, the range of its own verdicts (orders, repeats)."""
    said = judgements.filter(pc.is_valid(judgements["fitness"]))
    panel = ["question_id", "fitness_form", "target", "phase"]
    by_judge = said.group_by([*panel, "judge"]).aggregate(
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
    apart: dict[str, float] = {}
    for row in by_panel.to_pylist():
        ends = ("fitness_mean_min", "fitness_mean_max")
        low, high = ends if row["judge_count"] > 1 else ("fitness_min_min", "fitness_max_max")
        key = row["question_id"]
        apart[key] = max(apart.get(key, 0.0), row[high] - row[low])
    return apart


def _ids(rows: pa.Table | None) -> list[str]:
    return rows["id"].to_pylist() if rows is not None else []
