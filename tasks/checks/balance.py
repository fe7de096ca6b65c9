"""Whether topics and attributes have their share, and whether there are controls to compare with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from schemas.question import Question
from tasks.checks.findings import Problem, problem

ENOUGH = 20
"""Questions below which a share says nothing."""
LARGEST_SHARE = 0.5
LARGEST_RATIO = 3.0


def check_balance(questions: Sequence[Question]) -> list[Problem]:
    """Warnings about the questions that are not controls."""
    asked = [q for q in questions if q.control == "none" and q.label != "hard_negative"]
    if len(asked) < ENOUGH:
        return []
    return [*_attributes(asked), *_domains(asked), *_controls(questions)]


def _attributes(asked: Sequence[Question]) -> list[Problem]:
    counts = Counter(q.attribute for q in asked)
    most = max(counts.values())
    rare = [a for a, n in counts.items() if n * LARGEST_RATIO < most]
    return problem("questions", "attributes_unbalanced", rare, detail=_told(counts))


def _domains(asked: Sequence[Question]) -> list[Problem]:
    counts = Counter(f"{q.superdomain}/{q.domain}" for q in asked)
    if len(counts) < 3:
        return []
    common = [d for d, n in counts.items() if n > LARGEST_SHARE * len(asked)]
    return problem(
        "questions", "domains_unbalanced", common, detail=f"{counts.most_common(1)[0][1]} of {len(asked)}"
    )


def _controls(questions: Sequence[Question]) -> list[Problem]:
    kinds = {q.control for q in questions}
    return problem("questions", "controls_absent", {"a_a", "placebo"} - kinds)


def _told(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {n}" for name, n in sorted(counts.items()))
