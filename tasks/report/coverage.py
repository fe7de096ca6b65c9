"""Summarise the gaps of a release: lost answers, abstentions and effects without a value."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from schemas.answers import EFFECTS, RESPONSES, Effect, Judgement, Response
from schemas.labels import PROPOSALS, StageCounts
from schemas.question import QUESTIONS, Question
from tasks.families.coverage import MAIN_METRICS, AnswerStatus, StatusCounts, answer_status, counts_refusals
from tasks.families.effects import UNEQUAL_COVERAGE
from tasks.release import CONTROLS, HARD_NEGATIVES, Contents
from tasks.report.sentences import language_name
from tasks.text.model_names import short_names

UNEQUAL_P = 0.05
"""Largest p-value of unequal coverage that is reported."""


@dataclass(frozen=True)
class AnswerCoverage:
    """Answers of one model to one family in one language."""

    family: str
    model: str
    language: str
    counts: StatusCounts
    read: int
    """Answers that the family's metrics can use."""

    @property
    def coverage(self) -> float:
        """`read` of all answers asked for."""
        return self.read / self.counts.asked if self.counts.asked else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the fields of `show --json`."""
        c = self.counts
        return {
            "family": self.family,
            "model": self.model,
            "language": self.language,
            "asked": c.asked,
            "read": self.read,
            "refused": c.refused,
            "unreadable": c.unreadable,
            "empty": c.empty,
            "failed": c.failed,
            "coverage": round(self.coverage, 4),
        }


@dataclass(frozen=True)
class JudgeCoverage:
    """Comparisons of one judge in one language."""

    judge: str
    language: str
    asked: int
    judged: int
    reason: str | None
    """Most frequent reason of an abstention."""

    @property
    def coverage(self) -> float:
        """`judged` of all comparisons asked for."""
        return self.judged / self.asked if self.asked else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the fields of `show --json`."""
        return {
            "judge": self.judge,
            "language": self.language,
            "asked": self.asked,
            "judged": self.judged,
            "coverage": round(self.coverage, 4),
            "reason": self.reason,
        }


@dataclass(frozen=True)
class Unmeasured:
    """Effects without a value that share family, model, language and reason."""

    family: str
    model: str
    language: str
    metrics: tuple[str, ...]
    effects: int
    reason: str

    def to_json(self) -> dict[str, Any]:
        """Return the fields of `show --json`."""
        return {
            "family": self.family,
            "model": self.model,
            "language": self.language,
            "metrics": list(self.metrics),
            "effects": self.effects,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class UnequalCoverage:
    """Values of one attribute with unequal shares of readable answers."""

    family: str
    attribute: str
    model: str
    condition: str
    difference: float
    p_value: float
    q_value: float | None = None
    """p adjusted over the attributes of a model. `None` in releases of earlier versions."""

    def to_json(self) -> dict[str, Any]:
        """Return the fields of `show --json`."""
        return {
            "family": self.family,
            "attribute": self.attribute,
            "model": self.model,
            "condition": self.condition,
            "differential_coverage": round(self.difference, 4),
            "p_value": self.p_value,
            "q_value": self.q_value,
        }


@dataclass(frozen=True)
class TopicCoverage:
    """Proposals of topics that a search asked the generator for."""

    asked: int
    usable: int

    @property
    def coverage(self) -> float:
        """`usable` of all proposals asked for."""
        return self.usable / self.asked

    def to_json(self) -> dict[str, Any]:
        """Return the fields of `show --json`."""
        return {"asked": self.asked, "usable": self.usable, "coverage": round(self.coverage, 4)}


@dataclass(frozen=True)
class MeasurementCoverage:
    """Coverage of a release: the measured share of its questions."""

    answers: tuple[AnswerCoverage, ...]
    judges: tuple[JudgeCoverage, ...]
    unmeasured: tuple[Unmeasured, ...]
    unequal: tuple[UnequalCoverage, ...]
    topics: TopicCoverage | None = None
    """Proposals of topics in a search. `None` if there were none."""

    @property
    def asked(self) -> int:
        """Answers asked for."""
        return sum(a.counts.asked for a in self.answers)

    @property
    def comparisons(self) -> int:
        """Comparisons that judges were asked for."""
        return sum(j.asked for j in self.judges)

    @property
    def abstained(self) -> int:
        """Comparisons without a verdict."""
        return self.comparisons - sum(j.judged for j in self.judges)

    def lost(self, status: str) -> int:
        """Return the number of answers with a status."""
        return sum(getattr(a.counts, status) for a in self.answers)

    def by_language(self) -> tuple[tuple[str, int, int], ...]:
        """Return (language, read, asked), sorted by language."""
        totals: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        for a in self.answers:
            totals[a.language][0] += a.read
            totals[a.language][1] += a.counts.asked
        return tuple((language, read, asked) for language, (read, asked) in sorted(totals.items()))

    def to_json(self) -> dict[str, Any]:
        """Return the field `coverage` of `show --json`."""
        return {
            "answers": [a.to_json() for a in self.answers],
            "judges": [j.to_json() for j in self.judges],
            "not_measured": [u.to_json() for u in self.unmeasured],
            "unequal": [u.to_json() for u in self.unequal],
            "topics": self.topics.to_json() if self.topics else None,
        }


def describe_coverage(coverage: Mapping[str, Any]) -> list[str]:
    """Return the field `coverage` of `show --json` as lines: effects without a value come first."""
    names = short_names({row["model"] for kind in ("not_measured", "unequal") for row in coverage[kind]})
    shared: dict[tuple[str, str, str, int], list[str]] = defaultdict(list)
    for u in coverage["not_measured"]:
        shared[u["family"], u["language"], u["reason"], u["effects"]].append(names[u["model"]])
    lines = [
        f"not measured: {family} in {language_name(language)}, {', '.join(models)}, "
        f"{effects:,} effect{'s' if effects != 1 else ''}{' each' if len(models) > 1 else ''}: {reason}"
        for (family, language, reason, effects), models in shared.items()
    ]
    lines += [
        f"unequal coverage: {u['family']}, {u['attribute']}, {names[u['model']]}: the values differ by "
        f"{u['differential_coverage']:.1%} (p = {u['p_value']:.3f}"
        + (f", q = {u['q_value']:.3f})" if u.get("q_value") is not None else ")")
        for u in coverage["unequal"]
    ]
    totals: dict[str, Counter[str]] = defaultdict(Counter)
    for a in coverage["answers"]:
        for name in ("asked", "read", "failed", "empty", "unreadable", "refused"):
            totals[a["language"]][name] += a[name]
    for language, n in sorted(totals.items()):
        lost = ", ".join(f"{n[s]:,} {s}" for s in ("failed", "empty", "unreadable", "refused") if n[s])
        share = n["read"] / n["asked"]
        line = f"coverage: {share:.1%} of {n['asked']:,} answers in {language_name(language)}"
        lines.append(line + (f" ({lost})" if lost else ""))
    judges = short_names({j["judge"] for j in coverage["judges"]})
    for j in coverage["judges"]:
        language = language_name(j["language"])
        line = f"coverage: {j['coverage']:.1%} of {j['asked']:,} comparisons in {language}"
        line += f" by {judges[j['judge']]}"
        lines.append(line + (f" (abstained most often: {j['reason']})" if j["reason"] else ""))
    if topics := coverage.get("topics"):
        lines.append(f"coverage: {topics['coverage']:.1%} of {topics['asked']:,} proposals of topics")
    return lines


def release_coverage(contents: Contents, counts: Iterable[StageCounts]) -> MeasurementCoverage:
    """Summarise the tables of a release.

    Args:
        contents: The tables.
        counts: Row counts of the stages, from the manifest.
    """
    proposed = next((c for c in counts if c.stage == PROPOSALS and c.rows > 0), None)
    questions = {q.id: q for config in (QUESTIONS, HARD_NEGATIVES, CONTROLS) for q in contents.rows(config)}
    effects = contents.rows(EFFECTS)
    return MeasurementCoverage(
        answers=count_answers(questions, contents.scan(RESPONSES)),
        judges=count_judgements(questions, contents.verdicts_everywhere),
        unmeasured=list_unmeasured(effects),
        unequal=list_unequal(effects),
        topics=TopicCoverage(proposed.rows, proposed.kept) if proposed else None,
    )


def count_answers(
    questions: Mapping[str, Question], responses: Iterable[Response]
) -> tuple[AnswerCoverage, ...]:
    """Count answers by family, model and language. Those to unknown questions are left out."""
    counted: dict[tuple[str, str, str], Counter[AnswerStatus]] = defaultdict(Counter)
    for r in responses:
        question = questions.get(r.question_id)
        if question is not None:
            counted[question.family, r.model, question.language][answer_status(question, r)] += 1
    rows = []
    for key, statuses in sorted(counted.items()):
        counts = StatusCounts.of(statuses)
        refusals = counts_refusals(key[0], MAIN_METRICS[key[0]])
        rows.append(AnswerCoverage(*key, counts, counts.usable(refusals=refusals)))
    return tuple(rows)


def count_judgements(
    questions: Mapping[str, Question], judgements: Iterable[Judgement]
) -> tuple[JudgeCoverage, ...]:
    """Count verdicts and abstentions by judge and language."""
    asked: Counter[tuple[str, str]] = Counter()
    reasons: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for j in judgements:
        question = questions.get(j.question_id)
        if question is not None:
            key = j.judge, question.language
            asked[key] += 1
            if j.abstention is not None:
                reasons[key][j.abstention] += 1
    return tuple(
        JudgeCoverage(
            *key,
            asked=n,
            judged=n - reasons[key].total(),
            reason=min(reasons[key], key=lambda r: (-reasons[key][r], r)) if reasons[key] else None,
        )
        for key, n in sorted(asked.items())
    )


def list_unmeasured(effects: Iterable[Effect]) -> tuple[Unmeasured, ...]:
    """Group the effects without a value by family, model, language and kind of reason.

    The effects of single questions are left out. The reason is that of the broadest slice.
    """
    broadest = ("family", "attribute", "control", "superdomain", "domain", "overall")
    groups: dict[tuple[str, str, str, str], list[Effect]] = defaultdict(list)
    for e in effects:
        if not e.is_measured and e.level != "question":
            groups[e.family, e.model, e.language, (e.reason or "").partition(":")[0]].append(e)
    rows = []
    for (family, model, language, _), members in sorted(groups.items()):
        first = min(members, key=lambda e: (broadest.index(e.level), e.metric, e.id))
        metrics = tuple(sorted({e.metric.partition(":")[0] for e in members}))
        rows.append(Unmeasured(family, model, language, metrics, len(members), first.reason or ""))
    return tuple(rows)


def list_unequal(effects: Iterable[Effect]) -> tuple[UnequalCoverage, ...]:
    """Return the attributes with unequal coverage, largest difference first, one row per model."""
    effects = list(effects)
    tested = [e for e in effects if e.metric == UNEQUAL_COVERAGE]
    if tested:
        return tuple(
            UnequalCoverage(e.family, e.attribute, e.model, e.condition, e.value, e.p_value, e.q_value)
            for e in sorted(tested, key=lambda e: -(e.value or 0.0))
            if e.value is not None and e.p_value is not None and (e.q_value or 0.0) <= UNEQUAL_P
        )
    found: dict[tuple[str, str, str, str], UnequalCoverage] = {}
    for e in sorted(effects, key=lambda e: -(e.differential_coverage or 0.0)):
        p_value = e.differential_coverage_p
        key = e.family, e.attribute, e.model, e.condition
        if (
            e.level == "attribute"
            and e.differential_coverage
            and p_value is not None
            and p_value <= UNEQUAL_P
        ):
            found.setdefault(key, UnequalCoverage(*key, e.differential_coverage, p_value))
    return tuple(found.values())
