"""The result of relabelling: the rows after, the history of every label, and counts that add up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from schemas.candidates import CandidateSet, Passage
from schemas.ids import content_id
from schemas.label import LabelChange, SubjectKind
from tasks.relabelling.policies import Policy, Verdict, row_flags, why_dropped
from tasks.relabelling.rules import SCREENED_OUT, Plan

Votes = tuple[int, int, int, int]
LABEL_AFTER = {"promoted": "positive", "removed": "removed"}


@dataclass(frozen=True, slots=True)
class RelabelledRow:
    """One row: what it was, what each of its negatives became, and what it is now (`None`: dropped)."""

    before: CandidateSet
    after: CandidateSet | None
    verdicts: tuple[Verdict, ...]
    """One for each negative, in order."""
    changes: tuple[LabelChange, ...]
    flags: tuple[str, ...]
    conflicts: tuple[str, ...] = ()
    rule_decided: frozenset[int] = frozenset()
    screen_checked: frozenset[int] = frozenset()
    """Negatives that the screen would have spared the judge, and that it was asked about all the same."""
    backfilled: int = 0
    """Negatives that were mined because too few were left."""


@dataclass(frozen=True, slots=True)
class Relabelling:
    """All rows of a relabelling, in the order in which they came."""

    rows: tuple[RelabelledRow, ...]
    judged_by: tuple[str, ...]
    agreement: Mapping[str, Votes] = field(default_factory=dict)
    """For every two judges, `a ~ b`, on how many candidates they said yes and yes, yes and no, no and yes, no
    and no to "is it relevant?"."""

    @property
    def sets(self) -> tuple[CandidateSet, ...]:
        """The rows that are left, relabelled."""
        return tuple(row.after for row in self.rows if row.after is not None)

    @property
    def changes(self) -> tuple[LabelChange, ...]:
        """Every label that is another now."""
        return tuple(change for row in self.rows for change in row.changes)

    @property
    def flagged(self) -> dict[str, tuple[str, ...]]:
        """Row id to flags (`review`, `ambiguous`, …), for the rows that a person should look at."""
        return {row.before.id: row.flags for row in self.rows if row.flags}

    @property
    def counts(self) -> dict[str, int]:
        """`candidates = promoted + filtered + kept + abstained`, always."""
        return count_rows(self.rows)


def count_rows(rows: Iterable[RelabelledRow]) -> dict[str, int]:
    """Rows, candidates by outcome, rows by flag, candidates by rule."""
    counts: Counter[str] = Counter(rows=0, candidates=0, promoted=0, filtered=0, kept=0, abstained=0)
    counts.update(rows_dropped=0, rows_flagged=0, rows_without_negatives=0, rows_without_positives=0)
    counts.update(decided_by_rule=0, screened_out=0, in_batch_conflicts=0, backfilled=0)
    for row in rows:
        counts["rows"] += 1
        counts["candidates"] += len(row.verdicts)
        for verdict in row.verdicts:
            counts["filtered" if verdict.outcome == "removed" else verdict.outcome] += 1
        counts["rows_dropped"] += row.after is None
        counts["rows_flagged"] += bool(set(row.flags) & {"review", "ambiguous"})
        counts["rows_without_negatives"] += "no_negatives" in row.flags
        counts["rows_without_positives"] += "no_positive" in row.flags
        screened = sum(verdict.reason == SCREENED_OUT for verdict in row.verdicts)
        counts["screened_out"] += screened
        counts["decided_by_rule"] += len(row.rule_decided) - screened
        counts["in_batch_conflicts"] += len(row.conflicts)
        counts["backfilled"] += row.backfilled
    return dict(counts)


def record_changes(
    plan: Plan,
    verdicts: Sequence[Verdict],
    policy: Policy,
    *,
    judge: str,
    flags: Sequence[str] = (),
    drop: bool = False,
) -> RelabelledRow:
    """Apply the verdicts to a row: promoted negatives go behind its positives, removed ones leave."""
    row = plan.row
    pairs = list(zip(row.negatives, verdicts, strict=True))
    promoted = tuple(passage for passage, verdict in pairs if verdict.outcome == "promoted")
    left = tuple(passage for passage, verdict in pairs if verdict.outcome in ("kept", "abstained"))
    after = row.model_copy(update={"positives": (*row.positives, *promoted), "negatives": left})
    changes = tuple(
        _change(row, passage, verdict, "rule" if index in plan.decided else judge)
        for index, (passage, verdict) in enumerate(pairs)
        if verdict.outcome in LABEL_AFTER
    )
    judged = (verdict for index, verdict in enumerate(verdicts) if index not in plan.decided)
    reason = why_dropped(policy, judged, len(pairs), len(left))
    return RelabelledRow(
        before=row,
        after=None if drop or reason else after,
        verdicts=tuple(verdicts),
        changes=changes,
        flags=row_flags(policy, verdicts, (*plan.flags, *flags, *([reason] if reason else []))),
        conflicts=plan.conflicts,
        rule_decided=frozenset(plan.decided),
        screen_checked=frozenset(plan.screen_checked),
    )


def _change(row: CandidateSet, passage: Passage, verdict: Verdict, judge: str) -> LabelChange:
    return label_change(
        subject=passage.id,
        kind="passage",
        query=row.query_id,
        within=row.id,
        before="hard_negative",
        after=LABEL_AFTER[verdict.outcome],
        verdict=verdict,
        judge=judge,
    )


def label_change(
    *,
    subject: str,
    kind: SubjectKind,
    query: str,
    within: str,
    before: str,
    after: str,
    verdict: Verdict,
    judge: str,
) -> LabelChange:
    """The first entry of a subject's history for one query; its id is what happened, and in which row."""
    return LabelChange(
        id=content_id("lc", kind, subject, query, within, 0, before, after, verdict.reason, judge),
        subject_id=subject,
        subject_kind=kind,
        query_id=query,
        step=0,
        before=before,
        after=after,
        reason=verdict.reason,
        judge=judge,
        evidence=verdict.evidence,
        stage="relabel",
    )
