"""Whether topics and attributes have their share, and whether there are controls to compare with."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from schemas.errors import InputError
from schemas.question import Question, Variant, question_id
from schemas.vocabulary import Attribute, Value
from tasks.checks.catalogue import Problem, problem
from tasks.text.slots import expand_template, mask_slots

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


# A question is a group: every value present, variants that differ in their slots only, fitting options.


@dataclass(frozen=True)
class ExpandedQuestion:
    """A question, and what its template expands to (`None`: its slots cannot be read or do not fit)."""

    question: Question
    expanded: tuple[Variant, ...] | None


Faulty = Callable[[ExpandedQuestion], bool]

ROLES: Mapping[str, tuple[str, ...]] = {
    "agreement": ("agree", "disagree"),
    "decision": ("no", "yes"),
    "description_pair": ("anti_stereotype", "stereotype"),
    "entailment": ("contradiction", "entailment", "neutral"),
    "relative_decision": ("default", "stigma"),
}
"""Families whose options are one for each role."""
WITHOUT_OPTIONS = frozenset({"open", "autocomplete", "perplexity_pair"})


def check_groups(questions: Iterable[Question]) -> list[Problem]:
    """Every check that needs one question only, in one pass."""
    failing: dict[str, list[str]] = defaultdict(list)
    for question in questions:
        group = ExpandedQuestion(question, _expanded(question))
        for check, is_faulty in GROUP_CHECKS.items():
            if is_faulty(group):
                failing[check].append(question.id)
    return [p for check, ids in failing.items() for p in problem("questions", check, ids)]


def _expanded(question: Question) -> tuple[Variant, ...] | None:
    try:
        return expand_template(question.template, question.values)
    except InputError:
        return None


def id_is_not_content(group: ExpandedQuestion) -> bool:
    """A mended text keeps its id, so that releases can be compared; any other id follows from content."""
    return group.question.changed_in is None and group.question.id != question_id(
        family=group.question.family,
        attribute=group.question.attribute,
        framing=group.question.framing,
        control=group.question.control,
        template=group.question.template,
        values=group.question.values,
    )


def values_repeated(group: ExpandedQuestion) -> bool:
    return group.question.control != "a_a" and len(set(group.question.values)) < len(group.question.values)


def variant_missing(group: ExpandedQuestion) -> bool:
    return len(group.question.values) < 2 or group.question.values != tuple(
        v.value for v in group.question.variants
    )


def template_broken(group: ExpandedQuestion) -> bool:
    return group.expanded is None


def template_without_slot(group: ExpandedQuestion) -> bool:
    """Only a control may ask every value the same: its attribute was removed."""
    return (
        group.question.control == "none"
        and group.expanded is not None
        and not any(v.slots for v in group.expanded)
    )


def variants_differ_outside_slots(group: ExpandedQuestion) -> bool:
    """Expanding the template again must give exactly these variants."""
    if group.expanded is None or variant_missing(group):
        return False
    return [(v.index, v.text, v.slots) for v in group.expanded] != [
        (v.index, v.text, v.slots) for v in group.question.variants
    ]


def variants_alike(group: ExpandedQuestion) -> bool:
    texts = [v.text for v in group.question.variants]
    return group.question.control == "none" and len(set(texts)) < len(texts)


def a_a_differs(group: ExpandedQuestion) -> bool:
    return group.question.control == "a_a" and (
        len(set(group.question.values)) > 1 or len({v.text for v in group.question.variants}) > 1
    )


def label_contradicts_control(group: ExpandedQuestion) -> bool:
    """While it is unlabelled, a control contradicts nothing."""
    if group.question.label == "unlabelled":
        return False
    return (group.question.label == "control") != (group.question.control != "none")


def options_unfit(group: ExpandedQuestion) -> bool:
    """Free text has no options; a completion has three in three roles; an association has words on both
    sides, and so has a dialect's; a task has one right option of two to five; the families in `ROLES` have
    one option in each of their roles."""
    family, roles = group.question.family, sorted(option.role for option in group.question.options)
    if family == "completion":
        return len(roles) != 3 or len(set(roles)) != 3
    if family in ("association", "dialect"):
        return set(roles) != {"default", "stigma"}
    if family in ("task_accuracy", "persona"):
        return not 2 <= len(roles) <= 5 or roles.count("gold") != 1
    if family in ROLES:
        return tuple(roles) != ROLES[family]
    return family in WITHOUT_OPTIONS and bool(roles)


def options_alike(group: ExpandedQuestion) -> bool:
    texts = [" ".join(o.text.lower().split()) for o in group.question.options]
    return len(set(texts)) < len(texts)


def lineage_missing(group: ExpandedQuestion) -> bool:
    """A new topic has no parent, but every evolved question was made by an operator."""
    return group.question.origin == "evolved" and not group.question.operator


GROUP_CHECKS: Mapping[str, Faulty] = {
    check.__name__: check
    for check in (
        id_is_not_content,
        values_repeated,
        variant_missing,
        template_broken,
        template_without_slot,
        variants_differ_outside_slots,
        variants_alike,
        a_a_differs,
        label_contradicts_control,
        options_unfit,
        options_alike,
        lineage_missing,
    )
}


def check_vocabulary(questions: Iterable[Question], attributes: Mapping[str, Attribute]) -> list[Problem]:
    """Attributes and values must be known; nothing is checked where no vocabulary is at hand."""
    known = {name: {v.id for v in attribute.values} for name, attribute in attributes.items()}
    strange = [q for q in questions if known and q.attribute not in known]
    unknown = [q for q in questions if q.attribute in known and not set(q.values) <= known[q.attribute]]
    return [
        *problem("questions", "attribute_unknown", (q.id for q in strange)),
        *problem("questions", "value_unknown", (q.id for q in unknown)),
    ]


def check_repeated_texts(questions: Iterable[Question]) -> list[Problem]:
    """No text of one attribute is asked twice; controls repeat their originals on purpose."""
    first: dict[tuple[str, ...], str] = {}
    repeated = []
    for question in questions:
        if question.control != "none":
            continue
        texts = sorted(" ".join(v.text.lower().split()) for v in question.variants)
        key = (question.family, question.attribute, *texts)
        if first.setdefault(key, question.id) != question.id:
            repeated.append(question.id)
    return problem("questions", "question_repeated", repeated)


# Whether a question reads like the language that it names, by the words that every text has.


ENOUGH_LANGUAGE = 4
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
    return others >= ENOUGH_LANGUAGE and others > RATIO * found[own]


# An implicit question shows its value by a name or a habit; the word for the group must not be in it.


GROUP_NOUNS = ("noun", "noun_plural")
GROUP_ADJECTIVES = ("adjective",)

_ARTICLE = re.compile(r"^(?:an?|the|some)\s+", re.IGNORECASE)


def check_leakage(questions: Iterable[Question], attributes: Mapping[str, Attribute]) -> list[Problem]:
    """In a slot, any word for the group is an error; around the slots a noun is, an adjective may be chance
    ("an old friend", "a white lie") and is a warning."""
    nouns = {name: _pattern(attribute, GROUP_NOUNS) for name, attribute in attributes.items()}
    adjectives = {name: _pattern(attribute, GROUP_ADJECTIVES) for name, attribute in attributes.items()}
    in_slot, in_text, perhaps = [], [], []
    for question in questions:
        if question.framing != "implicit" or question.attribute not in attributes:
            continue
        noun, adjective = nouns[question.attribute], adjectives[question.attribute]
        slots = " \n ".join(" \n ".join(v.slots) for v in question.variants)
        text = _text_around_slots(question)
        if noun.search(slots) or adjective.search(slots):
            in_slot.append(question.id)
        if noun.search(text):
            in_text.append(question.id)
        elif adjective.search(text):
            perhaps.append(question.id)
    return [
        *problem("questions", "implicit_slot_names_value", in_slot),
        *problem("questions", "implicit_text_names_group", in_text),
        *problem("questions", "implicit_text_may_name_group", perhaps),
    ]


def _text_around_slots(question: Question) -> str:
    """What all variants share. A template that cannot be read is reported elsewhere."""
    return re.sub(r"\{\{.*?\}\}", " \n ", question.template, flags=re.DOTALL)


def _pattern(attribute: Attribute, forms: tuple[str, ...]) -> re.Pattern[str]:
    words = sorted(
        {w for value in attribute.values for w in _words(value, forms)}, key=lambda w: (-len(w), w)
    )
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, words)) or '(?!)'})\b", re.IGNORECASE)


def _words(value: Value, forms: tuple[str, ...]) -> Iterator[str]:
    """The forms without their article: "a woman" also leaks as "the woman"."""
    for form in forms:
        for text in value.forms.get(form, ()):
            if bare := _ARTICLE.sub("", text.strip()):
                yield bare


# Explicit and implicit twins: each names the other, and they differ in their framing only.


SHARED = ("family", "attribute", "values", "superdomain", "domain", "topic", "language", "control")


def check_twins(questions: Iterable[Question]) -> list[Problem]:
    """Twins that were both kept are compared; a twin that was dropped is a reference, checked elsewhere."""
    by_id = {q.id: q for q in questions}
    pairs = [(q, by_id[q.twin_id]) for q in by_id.values() if q.twin_id in by_id]
    return [
        *problem("questions", "twin_not_linked_back", (q.id for q, twin in pairs if twin.twin_id != q.id)),
        *problem("questions", "twins_inconsistent", (q.id for q, twin in pairs if _differ(q, twin))),
    ]


def _differ(question: Question, twin: Question) -> bool:
    return question.framing == twin.framing or any(
        getattr(question, name) != getattr(twin, name) for name in SHARED
    )
