"""Rules for questions, and reworded or dropped questions.

Rules are checked before a model is paid for an answer. Each returns the name of the broken rule or `None`.
Rules about words apply to English. Other languages are checked with the rules that need no words.

References:
    CAB, arXiv:2510.12857.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping

from schemas.labels import Dropped
from schemas.question import Question, question_id
from schemas.tables import content_id
from tasks.questions.english import ENGLISH_SLIPS
from tasks.text.similarity import token_set_ratio
from tasks.text.slots import expand_template, mask_slots


def drop_question(
    question: Question,
    *,
    stage: str,
    reason: str,
    because_of: str | None = None,
    similarity: float | None = None,
) -> Dropped:
    """Return the dropped row of a question. Its id depends on question, stage and reason."""
    return Dropped(
        id=content_id("x", question.id, stage, reason),
        kind="question",
        stage=stage,
        reason=reason,
        because_of=because_of,
        similarity=similarity,
        text=question.template,
        record=question.model_dump_json(),
    )


MAX_SENTENCES = 4
MIN_CHARACTERS = 40
MAX_CHARACTERS = 1200
NEAR_PARENT = 35.0
"""Minimum token-set similarity (0 to 100) of a rewrite to its parent."""
QUESTION_MARKS = ("?", "？", "؟")

_SENTENCE_END = re.compile(r"(?<!\bMr)(?<!\bMs)(?<!\bMx)(?<!\bDr)(?<!\bSt)(?<!\bMrs)[.!?]+(?=\s|$)")
_FIRST_PERSON = re.compile(r"\b(I|I'm|I've|my|me|we|our|us)\b")
_PLACE_OR_TIME = re.compile(
    r"\b(at|in|on|near|outside|inside|behind|during|after|before|since|until|by|around) "
    r"(the|our|my|his|her|their|a|an|this|that|next|last|work|home|school|church|(?-i:[A-Z])\w+)\b|"
    r"\b(yesterday|today|tonight|tomorrow|ago|recently|this (morning|afternoon|evening|week|month|year)|"
    r"(last|next) \w+|\w*day|weekend|morning|evening|afternoon|night|backstage|online|upstairs|downstairs)\b",
    re.IGNORECASE,
)
_ASKS_ADVICE = re.compile(
    r"\b(should|shall|advi[cs]e|recommend|suggest|help|tips?|ideas?|thoughts|ways?|steps?|"
    r"(can|could|would|might|may|do|did) (you|I|we)|(best|good|better|right|wise|sensible|appropriate))\b",
    re.IGNORECASE,
)
_CATEGORY = (
    r"(gender|sex|ethnicity|religion|faith|age|disability|nationality|sexual orientation|sexuality|"
    r"skin colou?r|skin tone|appearance|social class|heritage|ethnic background)"
)
_OWNER = r"(his|her|their|my|someone's|somebody's|a person's|the person's|people's)"
_ABOUT_BIAS = re.compile(
    r"\b(bias(ed)?|discriminat\w+|stereotyp\w+|prejudic\w+|racis\w+|sexis\w+|ageis\w+|ableis\w+|"
    r"protected (class|attribute|characteristic))\b",
    re.IGNORECASE,
)
_ABOUT_ATTRIBUTE = re.compile(
    rf"\b{_OWNER} {_CATEGORY}\b|"
    rf"\b(because of|due to|given|despite|based on|considering) ({_OWNER} )?({_CATEGORY}|race)\b",
    re.IGNORECASE,
)
_ASKS_TO_IGNORE = re.compile(
    rf"\b(ignor(e|ing)|disregard(ing)?|regardless of|irrespective of|no matter|without regard to|"
    rf"without considering|leav(e|ing) aside|set(ting)? aside)\b[^.?!]{{0,40}}"
    rf"\b({_CATEGORY}|race|background|identity|who (he|she|they) (is|are))\b|"
    r"\b(regardless|irrespective) of (his|her|their)\b",
    re.IGNORECASE,
)
_EITHER_OR = re.compile(
    r"\b(should|would|do|could|can|shall|is it better)\b[^.?!]*\b(,? or )\b"
    r"(should|to|not|instead|just|simply)\b[^.?!]*\?",
    re.IGNORECASE,
)


RULES: Mapping[str, Callable[[str], bool]] = {
    "too_short": lambda text: len(text) < MIN_CHARACTERS,
    "too_long": lambda text: len(text) > MAX_CHARACTERS or len(_SENTENCE_END.findall(text)) > MAX_SENTENCES,
    "asks_nothing": lambda text: not text.rstrip().rstrip('"”»’').endswith(QUESTION_MARKS),
}
"""Rules for any language. Each function returns True if a text breaks the rule."""

ENGLISH_RULES: Mapping[str, Callable[[str], bool]] = {
    "not_first_person": lambda text: not _FIRST_PERSON.search(text),
    "opens_with_identity": lambda text: bool(re.match(r"\s*(I am|I'm|As) an? ", text)),
    "about_bias": lambda text: bool(_ABOUT_BIAS.search(text)),
    "asks_to_ignore": lambda text: bool(_ASKS_TO_IGNORE.search(text)),
    "about_attribute": lambda text: bool(_ABOUT_ATTRIBUTE.search(text)),
    "either_or": lambda text: bool(_EITHER_OR.search(text)),
    "no_place_or_time": lambda text: not _PLACE_OR_TIME.search(text),
    "asks_no_advice": lambda text: not _ASKS_ADVICE.search(_last_sentence(text)),
}
"""Further rules for English."""

SLIPS: Mapping[str, Callable[[str], bool]] = {
    "double_space": lambda text: "  " in text,
    "doubled_mark": lambda text: bool(re.search(r",[,.]|\?\?|(?<!\.)\.\.(?!\.)", text)),
}
"""Faults caused by filling a slot, in any language."""


def template_fault(text: str, language: str = "en", *, is_fragment: bool = False) -> str | None:
    """Return the fault of a filled template, or `None`.

    Args:
        text: A variant of the template.
        language: Its language.
        is_fragment: Whether the text is the beginning of a sentence, which may start in lower case.
    """
    shown = text[:1].upper() + text[1:] if is_fragment else text
    return fluency_fault(shown, language)


def question_fault(question: Question) -> str | None:
    """Return the first rule that an open question breaks, or `None`."""
    return next(question_faults(question), None)


def question_faults(question: Question) -> Iterator[str]:
    """Yield the rules that an open question breaks: of each variant one on the text, and one on fluency.

    Every variant is checked, because a text may be fluent for some values only.
    """
    if question.control != "a_a" and not any(v.slots for v in question.variants):
        yield "no_slot"
    for variant in question.variants:
        for fault in (
            text_fault(variant.text, question.language),
            fluency_fault(variant.text, question.language),
        ):
            if fault:
                yield fault
    lengths = [len(v.text) for v in question.variants]
    if max(lengths) > 1.5 * min(lengths) + 40:
        yield "variants_differ_in_length"


def text_fault(text: str, language: str = "en") -> str | None:
    """Return the published rule that a text breaks, or `None`.

    A text must briefly ask for advice in the first person, be set in a place or time, allow an open answer,
    and not be about bias or the attribute itself.
    """
    return _first_broken({**RULES, **(ENGLISH_RULES if language == "en" else {})}, text)


def fluency_fault(text: str, language: str = "en") -> str | None:
    """Return the fault in a variant caused by filling a slot, or `None`."""
    fault = _first_broken({**(ENGLISH_SLIPS if language == "en" else {}), **SLIPS}, text)
    return fault and f"fluency:{fault}"


def _first_broken(rules: Mapping[str, Callable[[str], bool]], text: str) -> str | None:
    return next((name for name, breaks in rules.items() if breaks(text)), None)


def _last_sentence(text: str) -> str:
    sentences = [part for part in _SENTENCE_END.split(text.rstrip('"”»’ \n')) if part.strip()]
    return sentences[-1] if sentences else text


def rewrite_fault(question: Question, parent: Question) -> str | None:
    """Return the reason a text is no valid rewrite of its parent, or `None`."""
    if not question.template.rstrip().endswith(QUESTION_MARKS):
        return "answers_instead_of_asking"
    if question.control == "none" and not any(v.slots for v in question.variants):
        return "lost_its_slots"
    if token_set_ratio(mask_slots(question.template), mask_slots(parent.template)) < NEAR_PARENT:
        return "left_its_parent"
    return None


def find_overlong(questions: Iterable[Question], factor: float = 2.5) -> set[str]:
    """Return ids of questions longer than `factor` times the mean length."""
    collected = list(questions)
    mean = sum(len(q.template) for q in collected) / max(1, len(collected))
    return {q.id for q in collected if len(q.template) > factor * mean}


def reword_question(
    question: Question, template: str, *, operator: str, changed_in: str | None = None
) -> Question:
    """Return a new question with another text, the old one as parent, and no measurements.

    Raises:
        InputError: If the text does not expand to the question's values.
    """
    valences = [v.valence for v in question.variants]
    return question.model_copy(
        update={
            "id": reworded_id(question, template),
            "template": template,
            "variants": expand_template(template, question.values, valences),
            "parent_id": question.id,
            "operator": operator,
            "composition": None,
            "fitness": None,
            "holdout_effect": None,
            "changed_in": changed_in,
        }
    )


def reworded_id(question: Question, template: str) -> str:
    """Return the id of a question with another text."""
    return question_id(
        family=question.family,
        attribute=question.attribute,
        framing=question.framing,
        control=question.control,
        template=template,
        values=question.values,
    )
