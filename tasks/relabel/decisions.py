"""Decide the labels of a row's candidates: rules before any call, verdicts after it.

A judge never decides a label. It finds and ranks evidence, or gives grades. The functions here and in the
strategies turn its answers into verdicts, and apply the verdicts to the row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from schemas.labels import CandidateSet, LabelChange, Passage, SubjectKind
from schemas.recipe import Relabel
from schemas.tables import content_id
from tasks.relabel.same_text import is_near_duplicate, match_key, query_key

Mode = Literal["both", "relabel", "filter", "remove_row"]
TooFew = Literal["keep_row", "drop_row", "backfill"]
Outcome = Literal["promoted", "removed", "kept", "abstained"]
RelativeRank = Literal["above", "below", "tied", "flipped", "unjudged"]
"""Rank of a candidate compared with the best positive. `flipped`: it depends on the order shown."""
Votes = tuple[int, int, int, int]
"""Candidates that two judges called relevant: both, only the first, only the second, neither."""

SCREENED_OUT = "screened_out"
"""Reason of candidates that a screen keeps from the judges."""
KNOWN_POSITIVE = "positive_of_same_query"
"""Reason of negatives that are a positive of the same query somewhere else in the file."""
LABEL_AFTER = {"promoted": "positive", "removed": "removed"}
VERDICT_BY_RANK: Mapping[RelativeRank, tuple[Outcome, str]] = {
    "above": ("promoted", "ranked_above_positive"),
    "below": ("removed", "evidence_below_positive"),
    "tied": ("removed", "tied_with_positive"),
    "flipped": ("removed", "order_flip"),
    "unjudged": ("abstained", "unusable_ranking"),
}
_OUTCOME_BY_MODE: Mapping[Mode, Mapping[Outcome, Outcome]] = {
    "both": {},
    "relabel": {"removed": "kept"},
    "filter": {"promoted": "removed"},
    "remove_row": {"promoted": "removed"},
}


@dataclass(frozen=True, slots=True)
class CandidateVerdict:
    """The outcome for one candidate, with its reason and the verbatim span that decided it."""

    outcome: Outcome
    reason: str
    evidence: str | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """Which changes are allowed, and when a row is dropped. No paper publishes these cases; they are ours."""

    mode: Mode = "both"
    min_negatives: int = 1
    too_few: TooFew = "keep_row"
    max_promoted: int = 7
    """A row with more promotions is flagged `ambiguous`. The cascade drops it."""
    max_characters: int = 20_000
    """Longer negatives are not sent to judges. Their verdict is an abstention. Longer positives are cut."""

    @classmethod
    def of(cls, section: Relabel) -> Policy:
        """Return the policy of a recipe."""
        return cls(section.mode, section.min_negatives, section.too_few, section.max_promoted)

    def restrict(self, verdict: CandidateVerdict) -> CandidateVerdict:
        """Return the verdict that the mode allows: without `relabel` nothing is promoted, and so on."""
        outcome = _OUTCOME_BY_MODE[self.mode].get(verdict.outcome, verdict.outcome)
        return CandidateVerdict(outcome, verdict.reason, verdict.evidence)


# --- before any call: rules -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RowPlan:
    """A row with the verdicts of the rules and the candidates that are left for the judges."""

    row: CandidateSet
    positives: tuple[int, ...]
    """Indices of the positives that a judge can read: those with a text. Long ones are cut."""
    decided: dict[int, CandidateVerdict]
    """Verdicts by rule, by index of the negative."""
    undecided: tuple[int, ...]
    """Indices of the negatives that a judge must see."""
    flags: tuple[str, ...]
    conflicts: tuple[str, ...]
    """Ids of negatives that are a positive of another row (in-batch conflicts). Reported, not decided."""
    screen_checked: tuple[int, ...] = ()
    """Indices of negatives that the screen would skip, but that are judged to estimate its losses."""


def decide_by_rule(
    rows: Sequence[CandidateSet], policy: Policy, known_positives: Container[str] | None = None
) -> list[RowPlan]:
    """Plan each row: remove copies of a positive, repeated and empty negatives; abstain on over-long ones.

    The texts decide. Ids are not compared, because many files number them per list or leave them empty.

    Args:
        rows: The candidate sets.
        policy: Its `max_characters` is the limit for passages.
        known_positives: Keys of the positives of the whole file (`match_key` and `query_key`). Default: those
            of `rows`.
    """
    known = known_positives
    if known is None:
        keys = [(row.query, match_key(p.text)) for row in rows for p in row.positives]
        known = {key for _, key in keys} | {query_key(query, key) for query, key in keys}
    return [_plan(row, policy, known) for row in rows]


def _plan(row: CandidateSet, policy: Policy, known: Container[str]) -> RowPlan:
    readable = tuple(i for i, p in enumerate(row.positives) if p.text.strip())
    own = {match_key(p.text): p for p in row.positives if p.text.strip()}
    decided: dict[int, CandidateVerdict] = {}
    conflicts: list[str] = []
    seen: set[str] = set()
    for index, negative in enumerate(row.negatives):
        key = match_key(negative.text)
        verdict = _rule_verdict(negative, key, own, seen, policy)
        if verdict is None and query_key(row.query, key) in known:
            verdict = CandidateVerdict("removed", KNOWN_POSITIVE)
        seen.add(key)
        if verdict is not None:
            decided[index] = verdict
        elif key in known:
            conflicts.append(negative.id)
    undecided = tuple(i for i in range(len(row.negatives)) if i not in decided)
    cut = any(len(p.text) > policy.max_characters for p in row.positives)
    flags = ("no_positive",) * (not readable) + ("no_negatives",) * (not row.negatives)
    return RowPlan(row, readable, decided, undecided, flags + ("positive_cut",) * cut, tuple(conflicts))


def _rule_verdict(
    negative: Passage, key: str, own: dict[str, Passage], seen: set[str], policy: Policy
) -> CandidateVerdict | None:
    if not key:
        return CandidateVerdict("removed", "empty_passage")
    if len(negative.text) > policy.max_characters:
        return CandidateVerdict("abstained", "passage_too_long")
    if key in own:
        return CandidateVerdict("removed", "duplicate_of_positive")
    if key in seen:
        return CandidateVerdict("removed", "repeated_negative")
    if any(is_near_duplicate(negative.text, positive.text) for positive in own.values()):
        return CandidateVerdict("removed", "near_duplicate_of_positive")
    return None


def cut_passage(passage: Passage, size: int) -> Passage:
    """Return a passage with at most about `size` characters: its beginning and its end."""
    if len(passage.text) <= size:
        return passage
    half = size // 2
    return passage.model_copy(update={"text": f"{passage.text[:half]}\n…\n{passage.text[-half:]}"})


# --- after the calls: verdicts ----------------------------------------------------------------------------


def evidence_verdict(span: str, rank: RelativeRank | None, policy: Policy) -> CandidateVerdict:
    """Return the verdict on a candidate with evidence.

    Args:
        span: Its evidence.
        rank: Its rank relative to the best positive. `None`: no positive of the row has evidence, so that the
            candidate cannot be promoted.
        policy: Its mode restricts the outcome.
    """
    outcome, reason = VERDICT_BY_RANK[rank] if rank else ("removed", "positive_without_evidence")
    return policy.restrict(CandidateVerdict(outcome, reason, span))


def panel_verdict(verdicts: Sequence[CandidateVerdict]) -> CandidateVerdict:
    """Combine the verdicts of several judges on one candidate.

    If all outcomes agree, return the first verdict. Otherwise any evidence removes the candidate, because
    only a unanimous panel may promote. Without evidence, an abstention leaves the candidate open.
    """
    first = verdicts[0]
    if len({verdict.outcome for verdict in verdicts}) == 1:
        return first
    relevant = next((v for v in verdicts if v.outcome in ("removed", "promoted")), None)
    if relevant is not None:
        return CandidateVerdict("removed", "judges_disagree", relevant.evidence)
    return next(v for v in verdicts if v.outcome == "abstained")


def apply_verdicts(
    plan: RowPlan,
    verdicts: Sequence[CandidateVerdict],
    policy: Policy,
    *,
    judge: str,
    flags: Sequence[str] = (),
    drop: bool = False,
) -> RelabelledRow:
    """Relabel a row: append promoted negatives to its positives, and take removed ones out."""
    row = plan.row
    pairs = list(zip(row.negatives, verdicts, strict=True))
    promoted = tuple(passage for passage, verdict in pairs if verdict.outcome == "promoted")
    left = tuple(passage for passage, verdict in pairs if verdict.outcome in ("kept", "abstained"))
    after = row.model_copy(update={"positives": (*row.positives, *promoted), "negatives": left})
    ids = Counter(passage.id for passage in row.negatives)
    changes = tuple(
        _passage_change(
            row, passage, verdict, "rule" if index in plan.decided else judge, index * (ids[passage.id] > 1)
        )
        for index, (passage, verdict) in enumerate(pairs)
        if verdict.outcome in LABEL_AFTER
    )
    judged = (verdict for index, verdict in enumerate(verdicts) if index not in plan.decided)
    reason = row_drop_reason(policy, judged, len(pairs), len(left))
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


def row_drop_reason(policy: Policy, judged: Iterable[CandidateVerdict], before: int, left: int) -> str | None:
    """Return why a row is dropped, or `None` to keep it.

    In mode `remove_row` a row is dropped if a judge found a false negative in it. With `drop_row` it is
    dropped if too few of its negatives are left. A row that came without negatives is kept.
    """
    if policy.mode == "remove_row" and any(verdict.outcome == "removed" for verdict in judged):
        return "false_negative"
    if policy.too_few == "drop_row" and before > 0 and left < policy.min_negatives:
        return "too_few_negatives"
    return None


def row_flags(policy: Policy, verdicts: Sequence[CandidateVerdict], flags: Sequence[str]) -> tuple[str, ...]:
    """Return the row's flags, each once. Add `ambiguous` if more than `max_promoted` were promoted."""
    promoted = sum(verdict.outcome == "promoted" for verdict in verdicts)
    ambiguous = ("ambiguous",) if promoted > policy.max_promoted else ()
    return tuple(dict.fromkeys((*flags, *ambiguous)))


def _passage_change(
    row: CandidateSet, passage: Passage, verdict: CandidateVerdict, judge: str, place: int
) -> LabelChange:
    return label_change(
        subject=passage.id,
        kind="passage",
        query=row.query_id,
        within=row.id,
        before="hard_negative",
        after=LABEL_AFTER[verdict.outcome],
        verdict=verdict,
        judge=judge,
        place=place,
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
    place: int = 0,
) -> LabelChange:
    """Return the first history entry of a subject for one query. Its id is a hash of the change.

    `place` distinguishes subjects with the same id: the position of the passage in its row.
    """
    parts = (kind, subject, query, within, 0, before, after, verdict.reason, judge)
    return LabelChange(
        id=content_id("lc", *parts, *([place] if place else [])),
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


# --- the result -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RelabelledRow:
    """One row before and after, with a verdict for each negative."""

    before: CandidateSet
    after: CandidateSet | None
    """`None` if the row was dropped."""
    verdicts: tuple[CandidateVerdict, ...]
    """One per negative of `before`, in order."""
    changes: tuple[LabelChange, ...]
    flags: tuple[str, ...]
    conflicts: tuple[str, ...] = ()
    rule_decided: frozenset[int] = frozenset()
    """Indices of negatives that no judge saw."""
    screen_checked: frozenset[int] = frozenset()
    """Indices of negatives that the screen would skip, and that were judged to estimate its losses."""
    backfilled: int = 0
    """Negatives mined because too few were left."""
    soft_labels: Mapping[str, float | None] = field(default_factory=dict)
    """Probability, mean grade or score by `match_key` of the passage. Empty for other strategies."""


@dataclass(frozen=True, slots=True)
class Relabelling:
    """All rows of a relabelling, in input order."""

    rows: tuple[RelabelledRow, ...]
    judged_by: tuple[str, ...]
    agreement: Mapping[str, Votes] = field(default_factory=dict)
    """Votes of every two judges, by `first ~ second`."""

    @property
    def sets(self) -> tuple[CandidateSet, ...]:
        """The relabelled rows, without the dropped ones."""
        return tuple(row.after for row in self.rows if row.after is not None)

    @property
    def changes(self) -> tuple[LabelChange, ...]:
        """All label changes."""
        return tuple(change for row in self.rows for change in row.changes)

    @property
    def flagged(self) -> dict[str, tuple[str, ...]]:
        """Flags (`review`, `ambiguous`, …) by id of the rows that a person should check."""
        return {row.before.id: row.flags for row in self.rows if row.flags}

    @property
    def counts(self) -> dict[str, int]:
        """Counts of `count_rows`. Always `candidates = promoted + filtered + kept + abstained`."""
        return count_rows(self.rows)


def count_rows(rows: Iterable[RelabelledRow]) -> dict[str, int]:
    """Count rows, candidates by outcome, rows by flag, and candidates decided without a judge."""
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
