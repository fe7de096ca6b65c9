"""Pointwise grades, recorded or asked live, turned into verdicts by a rule that is written down.

A rule has two sentences: who must agree, and on what, before a candidate is promoted; and before it is
removed. The default is the two-tier rule: promoted when *every* judge gives its *top* grade, removed when
*any* judge calls it *relevant* (on a scale of 0 to 3: from 2; on a binary scale: 1).
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from schemas.candidates import CandidateSet
from schemas.errors import InputError
from tasks.formats.text_file import open_text
from tasks.relabelling.judge import EvidenceQuestion
from tasks.relabelling.policies import ALLOWED, Outcome, Policy, Verdict
from tasks.relabelling.rules import Plan

Quorum = Literal["all", "majority", "any"]
Level = Literal["top", "relevant", "marginal"]


@dataclass(frozen=True, slots=True)
class Scale:
    """The grades of one judge: 0 to `top`; from `relevant` on a passage answers the query."""

    top: int
    relevant: int

    @classmethod
    def up_to(cls, top: int) -> Scale:
        """Binary, or graded with the usual cut (2 of 3)."""
        return cls(top, 1 if top <= 1 else (top + 1) // 2)

    def reaches(self, grade: int, level: Level) -> bool:
        """Whether a grade is at that level or above."""
        return grade >= {"top": self.top, "relevant": self.relevant, "marginal": 1}[level]


@dataclass(frozen=True, slots=True)
class DecisionRule:
    """`all:top/any:relevant` in words: promote when all say top, remove when any says relevant."""

    promote_by: Quorum = "all"
    promote_at: Level = "top"
    remove_by: Quorum = "any"
    remove_at: Level = "relevant"

    @classmethod
    def parse(cls, text: str) -> DecisionRule:
        """Read `QUORUM:LEVEL/QUORUM:LEVEL`; `InputError` says what there is."""
        parts = text.replace("/", ":").split(":")
        quorums, levels = ("all", "majority", "any"), ("top", "relevant", "marginal")
        if len(parts) != 4 or {parts[0], parts[2]} - set(quorums) or {parts[1], parts[3]} - set(levels):
            raise InputError(
                f"not a decision rule: {text!r}",
                hint="write promote/remove as QUORUM:LEVEL/QUORUM:LEVEL, e.g. all:top/any:relevant; "
                f"quorums: {', '.join(quorums)}; levels: {', '.join(levels)}",
            )
        return cls(*parts)  # type: ignore[arg-type]

    def __str__(self) -> str:
        return f"{self.promote_by}:{self.promote_at}/{self.remove_by}:{self.remove_at}"

    def outcome(self, grades: Mapping[str, int | None], scales: Mapping[str, Scale]) -> Outcome:
        """What the grades of one candidate call for. A grade that is missing can neither make all agree nor
        clear the candidate: without it nothing is promoted, and "no judge objects" is an abstention."""
        known = {judge: grade for judge, grade in grades.items() if grade is not None}
        if not known:
            return "abstained"

        def agreed(quorum: Quorum, level: Level) -> bool:
            votes = sum(scales[judge].reaches(grade, level) for judge, grade in known.items())
            needed = {"all": len(grades), "majority": len(grades) // 2 + 1, "any": 1}[quorum]
            return votes >= needed

        if agreed(self.promote_by, self.promote_at):
            return "promoted"
        if agreed(self.remove_by, self.remove_at):
            return "removed"
        return "kept" if len(known) == len(grades) else "abstained"


@dataclass(frozen=True)
class Grades:
    """Grades by (query id, passage id) and judge, with each judge's scale."""

    judges: tuple[str, ...]
    scales: Mapping[str, Scale]
    by_pair: Mapping[tuple[str, str], Mapping[str, int]]

    def of(self, query_id: str, passage_id: str) -> dict[str, int | None]:
        """Every judge's grade of one pair; `None` where there is none."""
        found = self.by_pair.get((query_id, passage_id), {})
        return {judge: found.get(judge) for judge in self.judges}

    def votes(self, query_id: str, passage_id: str) -> dict[str, bool | None]:
        """Whether every judge calls one pair relevant; `None` where it gave no grade."""
        return {
            judge: None if grade is None else self.scales[judge].reaches(grade, "relevant")
            for judge, grade in self.of(query_id, passage_id).items()
        }


def read_grades(path: Path, judges: Sequence[str] = (), scales: Mapping[str, int] | None = None) -> Grades:
    """A CSV `query_id,docid,judge,grade`. `judges`: only these; `scales`: a judge's top grade, where the file
    does not happen to hold it."""
    by_pair: dict[tuple[str, str], dict[str, int]] = {}
    tops: dict[str, int] = {}
    with open_text(path) as stream:
        reader = csv.DictReader(stream)
        missing = {"query_id", "docid", "judge", "grade"} - set(reader.fieldnames or ())
        if missing:
            raise InputError(f"the verdicts have no column {sorted(missing)[0]!r}", place=f"{path}:1")
        for record in reader:
            judge, grade = record["judge"], _grade(record["grade"], f"{path}:{reader.line_num}")
            if grade is None or (judges and judge not in judges):
                continue
            given = by_pair.setdefault((record["query_id"], record["docid"]), {})
            if given.setdefault(judge, grade) != grade:
                raise InputError(
                    f"{judge!r} grades {record['docid']!r} both {given[judge]} and {grade}",
                    place=f"{path}:{reader.line_num}",
                    hint="keep one of the two lines",
                )
            tops[judge] = max(tops.get(judge, 1), grade)
    tops.update({judge: top for judge, top in (scales or {}).items() if judge in tops})
    unknown = [judge for judge in judges if judge not in tops]
    if unknown or not tops:
        raise InputError(f"no verdicts of {unknown[0] if unknown else 'any judge'}", place=str(path))
    names = tuple(judges) or tuple(sorted(tops))
    return Grades(names, {judge: Scale.up_to(tops[judge]) for judge in names}, by_pair)


def _grade(text: str | None, place: str) -> int | None:
    if text is None or not text.strip():
        return None
    try:
        grade = int(text)
    except ValueError:
        raise InputError(
            f"not a grade: {text[:40]!r}", place=place, hint="grades are whole numbers"
        ) from None
    if grade < 0:
        raise InputError(f"not a grade: {grade}", place=place, hint="grades start at 0")
    return grade


class Grader(Protocol):
    """Grades single passages from 0 to 3; `None` is an abstention."""

    name: str

    async def grade(self, questions: Sequence[EvidenceQuestion]) -> list[int | None]: ...


async def grade_live(plans: Sequence[Plan], graders: Sequence[Grader]) -> Grades:
    """Ask for the grades of what rules left open, and of the positives of such rows."""
    by_pair: dict[tuple[str, str], dict[str, int]] = {}
    asked = {
        (plan.row.query_id, passage.id): (plan.row.query, passage)
        for plan in plans
        if plan.asked
        for passage in (
            *(plan.row.positives[i] for i in plan.positives),
            *(plan.row.negatives[i] for i in plan.asked),
        )
    }
    for grader in graders:
        found = await grader.grade([EvidenceQuestion(query, passage) for query, passage in asked.values()])
        for pair, grade in zip(asked, found, strict=True):
            if grade is not None:
                by_pair.setdefault(pair, {})[grader.name] = grade
    names = tuple(grader.name for grader in graders)
    return Grades(names, dict.fromkeys(names, Scale.up_to(3)), by_pair)


def settle_grades(plan: Plan, grades: Grades, rule: DecisionRule, policy: Policy) -> list[Verdict]:
    """One verdict for each negative of a row, rules first."""
    return [
        plan.decided.get(index) or _settle(plan.row, index, grades, rule, policy)
        for index in range(len(plan.row.negatives))
    ]


def _settle(row: CandidateSet, index: int, grades: Grades, rule: DecisionRule, policy: Policy) -> Verdict:
    given = grades.of(row.query_id, row.negatives[index].id)
    outcome = rule.outcome(given, grades.scales)
    reason = "no_grade" if outcome == "abstained" else "graded " + _in_words(given)
    return Verdict(ALLOWED[policy.mode].get(outcome, outcome), reason)


def _in_words(grades: Mapping[str, int | None]) -> str:
    return ", ".join(f"{judge}={'?' if grade is None else grade}" for judge, grade in grades.items())


def doubted_positives(rows: Iterable[CandidateSet], grades: Grades, rule: DecisionRule) -> set[str]:
    """Ids of rows none of whose graded positives any judge calls relevant: a person should look at them."""
    doubted = set()
    for row in rows:
        outcomes = [rule.outcome(grades.of(row.query_id, p.id), grades.scales) for p in row.positives]
        known = [outcome for outcome in outcomes if outcome != "abstained"]
        if known and all(outcome == "kept" for outcome in known):
            doubted.add(row.id)
    return doubted
