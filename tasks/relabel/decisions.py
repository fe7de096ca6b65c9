"""What a judge is asked when negatives are relabelled, and what it may answer.

A judge never decides a label. It finds evidence and ranks it; `policies` turns both into labels.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from schemas.labels import CandidateSet, LabelChange, Passage, SubjectKind
from schemas.recipe import Relabel
from schemas.tables import content_id
from tasks.text.normalize import normalise_for_match
from tasks.text.similarity import ratio

# The decisions about a row: what a verdict does to a label, and what a row does with too few negatives.
#
# The cases are published nowhere; every one of them is ours.


Mode = Literal["both", "relabel", "filter", "remove_row"]
TooFew = Literal["keep_row", "drop_row", "backfill"]
Outcome = Literal["promoted", "removed", "kept", "abstained"]
Standing = Literal["above", "below", "tied", "flipped", "unjudged"]


@dataclass(frozen=True, slots=True)
class Policy:
    """What is allowed to change, and when a row is no longer worth having."""

    mode: Mode = "both"
    min_negatives: int = 1
    too_few: TooFew = "keep_row"
    max_promoted: int = 7
    """More promotions than this: the row is flagged `ambiguous` (the cascade drops it)."""
    max_characters: int = 20_000
    """Longer passages are not sent anywhere: the verdict is an abstention."""

    @classmethod
    def of(cls, section: Relabel) -> Policy:
        """The policy that a recipe asks for."""
        return cls(section.mode, section.min_negatives, section.too_few, section.max_promoted)


@dataclass(frozen=True, slots=True)
class CandidateVerdict:
    """What one candidate becomes, why, and the verbatim span that decided."""

    outcome: Outcome
    reason: str
    evidence: str | None = None


ALLOWED: Mapping[Mode, Mapping[Outcome, Outcome]] = {
    "both": {},
    "relabel": {"removed": "kept"},
    "filter": {"promoted": "removed"},
    "remove_row": {"promoted": "removed"},
}
"""What a mode makes of the outcome that the evidence calls for."""

STANDINGS: Mapping[Standing, tuple[Outcome, str]] = {
    "above": ("promoted", "ranked_above_positive"),
    "below": ("removed", "evidence_below_positive"),
    "tied": ("removed", "tied_with_positive"),
    "flipped": ("removed", "order_flip"),
    "unjudged": ("abstained", "unusable_ranking"),
}


def verdict_with_evidence(span: str, standing: Standing | None, mode: Mode) -> CandidateVerdict:
    """The verdict on a candidate that answers the query. `standing` is how it compares with the best-ranked
    positive; `None`: no positive of the row has evidence, so there is nothing to be promoted against."""
    outcome, reason = STANDINGS[standing] if standing else ("removed", "positive_without_evidence")
    return CandidateVerdict(ALLOWED[mode].get(outcome, outcome), reason, span)


def why_dropped(policy: Policy, judged: Iterable[CandidateVerdict], before: int, left: int) -> str | None:
    """Why a row goes, or `None`. With the mode `remove_row` it goes when a judge found a false negative in
    it; with `drop_row` when too few of its negatives are left (a row that came with none stays)."""
    if policy.mode == "remove_row" and any(verdict.outcome == "removed" for verdict in judged):
        return "false_negative"
    if policy.too_few == "drop_row" and before > 0 and left < policy.min_negatives:
        return "too_few_negatives"
    return None


def row_flags(policy: Policy, verdicts: Sequence[CandidateVerdict], flags: Sequence[str]) -> tuple[str, ...]:
    """The row's flags, `ambiguous` among them where more was promoted than one query can well have."""
    promoted = sum(verdict.outcome == "promoted" for verdict in verdicts)
    ambiguous = ("ambiguous",) if promoted > policy.max_promoted else ()
    return tuple(dict.fromkeys((*flags, *ambiguous)))


def settle_panel(verdicts: Sequence[CandidateVerdict]) -> CandidateVerdict:
    """One verdict out of several judges'. All alike: that one. Else any evidence removes the candidate, for
    only a panel that agrees may promote; and without evidence an abstention leaves it open."""
    first = verdicts[0]
    outcomes = {verdict.outcome for verdict in verdicts}
    if len(outcomes) == 1:
        return first
    found = next((v for v in verdicts if v.outcome in ("removed", "promoted")), None)
    if found is not None:
        return CandidateVerdict("removed", "judges_disagree", found.evidence)
    return next(v for v in verdicts if v.outcome == "abstained")


# What is decided about a row before any call is made.


SCREENED_OUT = "screened_out"
NEAR_DUPLICATE = 95.0
"""rapidfuzz ratio (0 to 100) of the normalised texts from which a negative is a copy of a positive."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A row with what the rules decided and what is left to ask."""

    row: CandidateSet
    positives: tuple[int, ...]
    """Indices of the positives that can be read."""
    decided: dict[int, CandidateVerdict]
    """Verdicts by rule, by index of the negative."""
    asked: tuple[int, ...]
    """Indices of the negatives that a judge has to see."""
    flags: tuple[str, ...]
    conflicts: tuple[str, ...]
    """Ids of negatives that are a positive of another row (in-batch conflict): reported, not decided."""
    screen_checked: tuple[int, ...] = ()
    """Negatives that a screen would have decided, and that are asked about to see what it misses."""


def find_hard_negatives(
    rows: Sequence[CandidateSet], policy: Policy, positives_elsewhere: Container[str] | None = None
) -> list[Plan]:
    """One plan a row: copies of a positive, repeated and empty negatives are removed by rule, over-long ones
    abstain. `positives_elsewhere` holds the normalised positives of all rows; default: of these rows."""
    known = positives_elsewhere
    if known is None:
        known = {normalise_for_match(p.text) for row in rows for p in row.positives}
    return [_plan(row, policy, known) for row in rows]


def _plan(row: CandidateSet, policy: Policy, known: Container[str]) -> Plan:
    readable = tuple(
        i for i, p in enumerate(row.positives) if 0 < len(p.text.strip()) <= policy.max_characters
    )
    own = {normalise_for_match(p.text): p for p in row.positives if p.text.strip()}
    decided: dict[int, CandidateVerdict] = {}
    conflicts: list[str] = []
    seen: set[str] = set()
    for index, negative in enumerate(row.negatives):
        text = normalise_for_match(negative.text)
        verdict = _rule(negative, text, own, seen, policy)
        seen |= {text, negative.id}
        if verdict is not None:
            decided[index] = verdict
        elif text in known:
            conflicts.append(negative.id)
    asked = tuple(i for i in range(len(row.negatives)) if i not in decided)
    flags = ("no_positive",) * (not readable) + ("no_negatives",) * (not row.negatives)
    return Plan(row, readable, decided, asked, flags, tuple(conflicts))


def _rule(
    negative: Passage, text: str, own: dict[str, Passage], seen: set[str], policy: Policy
) -> CandidateVerdict | None:
    if not text:
        return CandidateVerdict("removed", "empty_passage")
    if len(negative.text) > policy.max_characters:
        return CandidateVerdict("abstained", "passage_too_long")
    if text in own or any(negative.id == positive.id for positive in own.values()):
        return CandidateVerdict("removed", "duplicate_of_positive")
    if text in seen or negative.id in seen:
        return CandidateVerdict("removed", "repeated_negative")
    if any(is_near_duplicate(text, positive) for positive in own):
        return CandidateVerdict("removed", "near_duplicate_of_positive")
    return None


def is_near_duplicate(text: str, other: str) -> bool:
    """Whether two normalised texts say the same in nearly the same letters. Texts whose numbers differ never
    do: "founded in 1884" is a hard negative of "founded in 1848"."""
    if min(len(text), len(other)) * 200 < NEAR_DUPLICATE * (len(text) + len(other)):
        return False
    return ratio(text, other) >= NEAR_DUPLICATE and _numbers(text) == _numbers(other)


def _numbers(text: str) -> list[str]:
    return re.findall(r"\d+", text)


# The result of relabelling: the rows after, the history of every label, and counts that add up.


Votes = tuple[int, int, int, int]
LABEL_AFTER = {"promoted": "positive", "removed": "removed"}


@dataclass(frozen=True, slots=True)
class RelabelledRow:
    """One row: what it was, what each of its negatives became, and what it is now (`None`: dropped)."""

    before: CandidateSet
    after: CandidateSet | None
    verdicts: tuple[CandidateVerdict, ...]
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
    verdicts: Sequence[CandidateVerdict],
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


def _change(row: CandidateSet, passage: Passage, verdict: CandidateVerdict, judge: str) -> LabelChange:
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
    verdict: CandidateVerdict,
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
