"""Signs that the models of an evaluation know the published questions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from schemas.answers import Continuation
from schemas.question import Question
from schemas.tables import derived_seed
from tasks.report.comparisons import DEFAULT_MIN_COVERAGE, Scored
from tasks.stats.clusters import twin_families
from tasks.stats.contamination import (
    ContaminationTest,
    canary_test,
    continuation_test,
    flag,
    gap_test,
    not_tested,
)

NO_PRIVATE = "the release has no private questions, or their file is not here; name it with --hold-back"
REPRODUCED = 0.5
"""Share of the n-grams of its second half from which on a question counts as reproduced, if no private
question reaches as much."""


def not_probed(reason: str) -> dict[str, Any]:
    """Return the section of an evaluation that did not test for contamination."""
    return {"status": "not_measured", "reason": reason, "requests": 0, "models": []}


def contamination_of(
    public: Scored,
    private: Scored | None,
    continuations: Sequence[Continuation],
    questions: Iterable[Question],
    *,
    canary: str,
) -> dict[str, Any]:
    """Test every model for contamination.

    Args:
        public: Scores of the public questions.
        private: Scores of the private questions. `None` without a private file.
        continuations: Replies to the first halves of the questions.
        questions: Public and private questions with the bias that was measured before the release.
        canary: GUID of the release.

    Returns:
        One entry per model: its tests, whether one of them is significant, and the reproduced questions. A
        section without private questions is `not_measured`, although the canary string was tested.
    """
    known = {q.id: q for q in questions}
    models = [
        _model(
            model,
            (public, private),
            [c for c in continuations if c.model == model],
            known,
            canary,
        )
        for model in sorted({c.model for c in continuations})
    ]
    measured = any(
        test["status"] == "measured" for m in models for test in m["tests"] if test["test"] != "canary"
    )
    reason = None
    if not measured:
        nothing = all(c.published for c in continuations)
        reason = NO_PRIVATE if nothing else models[0]["tests"][0 if private is not None else 1]["reason"]
    return {
        "status": "measured" if measured else "not_measured",
        "reason": reason,
        "requests": len(continuations),
        "models": models,
    }


def _model(
    model: str,
    scored: tuple[Scored, Scored | None],
    continuations: Sequence[Continuation],
    questions: Mapping[str, Question],
    canary: str,
) -> dict[str, Any]:
    families = twin_families(questions.values())
    overlaps: dict[bool, dict[str, float]] = {True: {}, False: {}}
    for c in continuations:
        if c.overlap is not None:
            overlaps[c.published][c.question_id] = c.overlap
    replies = [c.reply for c in continuations if c.question_id == "canary" and c.failure is None]
    lost = _lost_replies(continuations)
    if all(c.published for c in continuations):
        continued = not_tested("continuation", NO_PRIVATE, len(overlaps[True]))
    elif lost is not None:
        continued = not_tested("continuation", lost, len(overlaps[True]), len(overlaps[False]))
    else:
        seed = derived_seed("continuation", model)
        continued = continuation_test(overlaps[True], overlaps[False], seed, clusters=families)
    tests = flag((_gap(model, scored, questions, families), continued, canary_test(canary, replies)))
    highest = max([REPRODUCED, *overlaps[False].values()])
    return {
        "model": model,
        "flagged": any(test.flagged for test in tests),
        "tests": [asdict(test) for test in tests],
        "reproduced": sorted(q for q, share in overlaps[True].items() if share > highest or share == 1.0),
        "probed": sum(c.published and c.overlap is not None for c in continuations),
        "failed": sum(c.failure is not None for c in continuations),
    }


def _lost_replies(continuations: Sequence[Continuation]) -> str | None:
    """Return the reason if too few replies can be used. A model that refuses is not free of contamination."""
    asked = [c for c in continuations if c.question_id != "canary"]
    kinds = Counter(c.failure for c in asked if c.failure is not None)
    if len(asked) - kinds.total() >= DEFAULT_MIN_COVERAGE * len(asked):
        return None
    words = ", ".join(f"{n} × {kind}" for kind, n in kinds.most_common())
    return (
        f"{kinds.total()} of {len(asked)} replies cannot be used ({words}); "
        f"{DEFAULT_MIN_COVERAGE:.0%} must be usable"
    )


def _gap(
    model: str,
    scored: tuple[Scored, Scored | None],
    questions: Mapping[str, Question],
    families: Mapping[str, str],
) -> ContaminationTest:
    """Compare the bias of open questions, which are the only ones that are held back."""
    public, private = scored
    if private is None:
        return not_tested("gap", NO_PRIVATE)
    sides = [
        {
            s.question.id: s.score
            for s in side.scores
            if s.model == model and s.measured.value == "all" and s.question.family == "open"
        }
        for side in (public, private)
    ]
    every = [q for side in sides for q in side]
    before = {q: questions[q].fitness for q in every if q in questions}
    return gap_test(
        sides[0],
        sides[1],
        derived_seed("gap", model),
        difficulty={q: fitness for q, fitness in before.items() if fitness is not None},
        strata={q: (questions[q].attribute, questions[q].language) for q in every if q in questions},
        clusters=families,
    )
