"""Checks of questions: groups, options, languages, twins, leakage of implicit questions, and balance."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from schemas.errors import InputError
from schemas.question import Question, Variant, question_id
from schemas.vocabulary import Attribute, Value
from tasks.checks.catalogue import Problem, report_rows
from tasks.text.slots import expand_template, mask_slots

MIN_QUESTIONS = 20
"""Minimum number of questions for checks of balance."""
MAX_DOMAIN_SHARE = 0.5
MAX_ATTRIBUTE_RATIO = 3.0


def check_balance(questions: Sequence[Question]) -> list[Problem]:
    """Warn about unbalanced attributes and domains, and about missing controls. Controls are not counted."""
    originals = [q for q in questions if q.control == "none" and q.label != "hard_negative"]
    if len(originals) < MIN_QUESTIONS:
        return []
    return [
        *_check_attribute_balance(originals),
        *_check_domain_balance(originals),
        *_check_controls(questions),
    ]


def _check_attribute_balance(originals: Sequence[Question]) -> list[Problem]:
    counts = Counter(q.attribute for q in originals)
    most = max(counts.values())
    rare = [a for a, n in counts.items() if n * MAX_ATTRIBUTE_RATIO < most]
    return report_rows("questions", "attributes_unbalanced", rare, detail=_format_counts(counts))


def _check_domain_balance(originals: Sequence[Question]) -> list[Problem]:
    counts = Counter(f"{q.superdomain}/{q.domain}" for q in originals)
    if len(counts) < 3:
        return []
    common = [d for d, n in counts.items() if n > MAX_DOMAIN_SHARE * len(originals)]
    return report_rows(
        "questions",
        "domains_unbalanced",
        common,
        detail=f"{counts.most_common(1)[0][1]} of {len(originals)}",
    )


def _check_controls(questions: Sequence[Question]) -> list[Problem]:
    kinds = {q.control for q in questions}
    return report_rows("questions", "controls_absent", {"a_a", "placebo"} - kinds)


def _format_counts(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {n}" for name, n in sorted(counts.items()))


# Groups


@dataclass(frozen=True)
class ExpandedQuestion:
    """A question and the expansion of its template."""

    question: Question
    expanded: tuple[Variant, ...] | None


QuestionPredicate = Callable[[ExpandedQuestion], bool]

ROLES: Mapping[str, tuple[str, ...]] = {
    "agreement": ("agree", "disagree"),
    "ambiguous": ("other", "target", "unknown"),
    "decision": ("no", "yes"),
    "description_pair": ("anti_stereotype", "stereotype"),
    "entailment": ("contradiction", "entailment", "neutral"),
    "political": ("agree", "disagree", "neutral"),
    "relative_decision": ("default", "stigma"),
}
"""Roles of the options, for families with one option per role."""
WITHOUT_OPTIONS = frozenset({"open", "autocomplete", "perplexity_pair", "refusal"})


def check_groups(questions: Iterable[Question]) -> list[Problem]:
    """Run the checks that need one question only, in one pass."""
    failing: dict[str, list[str]] = defaultdict(list)
    for question in questions:
        group = ExpandedQuestion(question, _expand(question))
        for check, is_faulty in GROUP_CHECKS.items():
            if is_faulty(group):
                failing[check].append(question.id)
    return [p for check, ids in failing.items() for p in report_rows("questions", check, ids)]


def _expand(question: Question) -> tuple[Variant, ...] | None:
    try:
        return expand_template(question.template, question.values)
    except InputError:
        return None


def id_is_not_content(group: ExpandedQuestion) -> bool:
    """Return whether the id does not follow from the content.

    Corrected texts keep their id, and variants that differ in their options only have the text of their
    original. Both are exempt.
    """
    kept = group.question.changed_in is not None or group.question.variant_of is not None
    return not kept and group.question.id != question_id(
        family=group.question.family,
        attribute=group.question.attribute,
        framing=group.question.framing,
        control=group.question.control,
        template=group.question.template,
        values=group.question.values,
    )


def values_repeated(group: ExpandedQuestion) -> bool:
    """Return whether a question repeats a value.

    A/A controls do, and so do placebo controls with several names of one value.
    """
    values = set(group.question.values)
    one_value = group.question.control == "placebo" and len(values) == 1
    return group.question.control != "a_a" and not one_value and len(values) < len(group.question.values)


def variant_missing(group: ExpandedQuestion) -> bool:
    """Return whether the variants are not exactly the values, in order."""
    return len(group.question.values) < 2 or group.question.values != tuple(
        v.value for v in group.question.variants
    )


def template_broken(group: ExpandedQuestion) -> bool:
    """Return whether the template cannot be expanded."""
    return group.expanded is None


def template_without_slot(group: ExpandedQuestion) -> bool:
    """Return whether the template has no slot. Controls of a removed attribute are exempt."""
    return (
        group.question.control == "none"
        and group.expanded is not None
        and not any(v.slots for v in group.expanded)
    )


def variants_differ_outside_slots(group: ExpandedQuestion) -> bool:
    """Return whether the variants are not the expansion of the template."""
    if group.expanded is None or variant_missing(group):
        return False
    return [(v.index, v.text, v.slots) for v in group.expanded] != [
        (v.index, v.text, v.slots) for v in group.question.variants
    ]


def variants_alike(group: ExpandedQuestion) -> bool:
    """Return whether two variants of a question that is not a control have the same text."""
    texts = [v.text for v in group.question.variants]
    return group.question.control == "none" and len(set(texts)) < len(texts)


def a_a_differs(group: ExpandedQuestion) -> bool:
    """Return whether the variants of an A/A control differ."""
    return group.question.control == "a_a" and (
        len(set(group.question.values)) > 1 or len({v.text for v in group.question.variants}) > 1
    )


def label_contradicts_control(group: ExpandedQuestion) -> bool:
    """Return whether only one of the label and the control kind is a control.

    Unlabelled questions are exempt.
    """
    if group.question.label == "unlabelled":
        return False
    return (group.question.label == "control") != (group.question.control != "none")


def options_unfit(group: ExpandedQuestion) -> bool:
    """Return whether the roles of the options do not fit the family."""
    family, roles = group.question.family, sorted(option.role for option in group.question.options)
    if family == "completion":
        return len(roles) != 3 or len(set(roles)) != 3
    if family in ("association", "dialect"):
        return set(roles) != {"default", "stigma"}
    if family in ("task_accuracy", "persona"):
        return not 2 <= len(roles) <= 5 or roles.count("gold") != 1
    if family == "rating":
        return roles != sorted(str(point) for point in range(1, len(roles) + 1)) or len(roles) < 2
    if family in ROLES:
        return tuple(roles) != ROLES[family]
    return family in WITHOUT_OPTIONS and bool(roles)


def options_alike(group: ExpandedQuestion) -> bool:
    """Return whether two options have the same text, ignoring case and white space."""
    texts = [" ".join(o.text.lower().split()) for o in group.question.options]
    return len(set(texts)) < len(texts)


def lineage_missing(group: ExpandedQuestion) -> bool:
    """Return whether an evolved question has no operator.

    New topics have no parent, so only the operator is required.
    """
    return group.question.origin == "evolved" and not group.question.operator


GROUP_CHECKS: Mapping[str, QuestionPredicate] = {
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
    """Check that attributes and values are known. Nothing is checked without a vocabulary."""
    known = {name: {v.id for v in attribute.values} for name, attribute in attributes.items()}
    unknown_attribute = [q for q in questions if known and q.attribute not in known]
    unknown_value = [q for q in questions if q.attribute in known and not set(q.values) <= known[q.attribute]]
    return [
        *report_rows("questions", "attribute_unknown", (q.id for q in unknown_attribute)),
        *report_rows("questions", "value_unknown", (q.id for q in unknown_value)),
    ]


def check_repeated_texts(questions: Iterable[Question]) -> list[Problem]:
    """Check that no attribute has the same texts twice. Controls and variants repeat theirs on purpose."""
    first: dict[tuple[str, ...], str] = {}
    repeated = []
    for question in questions:
        if question.control != "none" or question.variant_of is not None:
            continue
        texts = sorted(" ".join(v.text.lower().split()) for v in question.variants)
        key = (question.family, question.attribute, *texts)
        if first.setdefault(key, question.id) != question.id:
            repeated.append(question.id)
    return report_rows("questions", "question_repeated", repeated)


# Languages

MIN_FOREIGN_WORDS = 4
"""Minimum number of function words of another language in a reported text."""
MIN_FOREIGN_RATIO = 3
"""Minimum ratio of function words of another language to those of the declared one."""

FunctionWords = Mapping[str, frozenset[str]]
"""Function words by language, without words that several languages share."""


def check_languages(questions: Iterable[Question], words: FunctionWords) -> list[Problem]:
    """Report questions that have many more function words of another language than of their own.

    Only languages with known words are compared. Dialects are exempt because of their spelling.
    """
    misdeclared = [
        q.id
        for q in questions
        if q.family != "dialect" and _reads_like_another_language(q.template, q.language, words)
    ]
    return report_rows("questions", "text_in_another_language", misdeclared)


def _reads_like_another_language(template: str, language: str, words: FunctionWords) -> bool:
    own = language.split("-")[0]
    if own not in words:
        return False
    text = Counter(w.strip(".,;:!?\"'()“”„»«").casefold() for w in mask_slots(template).split())
    counts = {name: sum(text[w] for w in known) for name, known in words.items()}
    others = max((n for name, n in counts.items() if name != own), default=0)
    return others >= MIN_FOREIGN_WORDS and others > MIN_FOREIGN_RATIO * counts[own]


# Implicit questions

GROUP_NOUNS = ("noun", "noun_plural")
GROUP_ADJECTIVES = ("adjective",)

_ARTICLE = re.compile(r"^(?:an?|the|some)\s+", re.IGNORECASE)


def check_leakage(questions: Iterable[Question], attributes: Mapping[str, Attribute]) -> list[Problem]:
    """Report implicit questions that name a group of their attribute.

    A name in a slot is an error. Outside the slots, a noun is an error and an adjective is a warning, because
    it may have another sense ("an old friend", "a white lie").
    """
    nouns = {name: _compile_pattern(attribute, GROUP_NOUNS) for name, attribute in attributes.items()}
    adjectives = {
        name: _compile_pattern(attribute, GROUP_ADJECTIVES) for name, attribute in attributes.items()
    }
    in_slot, in_text, possible = [], [], []
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
            possible.append(question.id)
    return [
        *report_rows("questions", "implicit_slot_names_value", in_slot),
        *report_rows("questions", "implicit_text_names_group", in_text),
        *report_rows("questions", "implicit_text_may_name_group", possible),
    ]


def _text_around_slots(question: Question) -> str:
    """Return the text that all variants share. Unlike `mask_slots`, this never fails."""
    return re.sub(r"\{\{.*?\}\}", " \n ", question.template, flags=re.DOTALL)


def _compile_pattern(attribute: Attribute, forms: tuple[str, ...]) -> re.Pattern[str]:
    words = sorted(
        {w for value in attribute.values for w in _bare_forms(value, forms)}, key=lambda w: (-len(w), w)
    )
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, words)) or '(?!)'})\b", re.IGNORECASE)


def _bare_forms(value: Value, forms: tuple[str, ...]) -> Iterator[str]:
    """Yield the forms without their articles, because "a woman" also leaks as "the woman"."""
    for form in forms:
        for text in value.forms.get(form, ()):
            if bare := _ARTICLE.sub("", text.strip()):
                yield bare


# Twins

TWIN_FIELDS = ("family", "attribute", "values", "superdomain", "domain", "topic", "language", "control")
"""Fields that explicit and implicit twins have in common."""


def check_twins(questions: Iterable[Question]) -> list[Problem]:
    """Check twins that were both kept. References to other twins are checked elsewhere."""
    by_id = {q.id: q for q in questions}
    pairs = [(q, by_id[q.twin_id]) for q in by_id.values() if q.twin_id in by_id]
    return [
        *report_rows(
            "questions", "twin_not_linked_back", (q.id for q, twin in pairs if twin.twin_id != q.id)
        ),
        *report_rows("questions", "twins_inconsistent", (q.id for q, twin in pairs if _differ(q, twin))),
    ]


def _differ(question: Question, twin: Question) -> bool:
    return question.framing == twin.framing or any(
        getattr(question, name) != getattr(twin, name) for name in TWIN_FIELDS
    )
