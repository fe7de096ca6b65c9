"""Whether a question reads like the language that it names, by the words that every text has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from schemas.question import Question
from tasks.checks.findings import Problem, problem
from tasks.text.slots import mask_slots

ENOUGH = 4
"""Function words of another language below which nothing is said."""
RATIO = 3

FunctionWords = Mapping[str, frozenset[str]]
"""Function words by language; a word that two languages share says nothing of either."""


def check_languages(questions: Iterable[Question], words: FunctionWords) -> list[Problem]:
    """Questions with many more function words of another language than of their own; only languages whose
    words are at hand are told apart. A dialect is spelt as it likes: its questions are left out."""
    strange = [
        q.id for q in questions if q.family != "dialect" and _reads_otherwise(q.template, q.language, words)
    ]
    return problem("questions", "text_in_another_language", strange)


def _reads_otherwise(template: str, language: str, words: FunctionWords) -> bool:
    own = language.split("-")[0]
    if own not in words:
        return False
    text = Counter(w.strip(".,;:!?\"'()“”„»«").casefold() for w in mask_slots(template).split())
    found = {name: sum(text[w] for w in known) for name, known in words.items()}
    others = max((n for name, n in found.items() if name != own), default=0)
    return others >= ENOUGH and others > RATIO * found[own]
