"""What a release tells of its reviewers: how many they were, what they decided, how far they agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from schemas.manifest import PeopleReview
from tasks.reviewing.agreement import agreement
from tasks.reviewing.standing import Words, settle


def summarise(
    words: Words, questions: Collection[str], passages: Collection[tuple[str, str]]
) -> PeopleReview | None:
    """Reviews of those questions (ids) and passages (query id, passage id); `None` where there is none."""
    of_questions = {s: said for s, said in words.items() if s[0] == "question" and s[1] in questions}
    of_passages = {s: said for s, said in words.items() if s[0] == "passage" and (s[2], s[1]) in passages}
    people = {name for said in [*of_questions.values(), *of_passages.values()] for name in said}
    if not people:
        return None
    decided = Counter(settlement.decision for settlement in settle(of_questions))
    found = agreement(of_questions)
    alpha = found.alpha_decisions
    return PeopleReview(
        people=len(people),
        questions=len(of_questions),
        passages=len(of_passages),
        kept=decided["keep"],
        dropped=decided["drop"],
        edited=decided["edit"],
        contested=decided["contested"],
        undecided=decided["undecided"],
        shared=found.shared,
        alpha=alpha.value if alpha else None,
        alpha_low=alpha.low if alpha else None,
        alpha_high=alpha.high if alpha else None,
    )
