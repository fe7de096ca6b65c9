"""A question is a group: every value present, variants that differ in their slots only, fitting options."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

from schemas.attribute import Attribute
from schemas.errors import InputError
from schemas.question import Question, question_id
from tasks.checks.findings import Problem, problem
from tasks.text.slots import expand_template, slot_columns

Faulty = Callable[[Question], bool]


def check_groups(questions: Iterable[Question]) -> list[Problem]:
    """Every check that needs one question only, in one pass."""
    failing: dict[str, list[str]] = defaultdict(list)
    for question in questions:
        for check, is_faulty in GROUP_CHECKS.items():
            if is_faulty(question):
                failing[check].append(question.id)
    return [p for check, ids in failing.items() for p in problem("questions", check, ids)]


def id_is_not_content(question: Question) -> bool:
    """A mended text keeps its id, so that releases can be compared; any other id follows from content."""
    return question.changed_in is None and question.id != question_id(
        family=question.family,
        attribute=question.attribute,
        framing=question.framing,
        control=question.control,
        template=question.template,
        values=question.values,
    )


def values_repeated(question: Question) -> bool:
    return question.control != "a_a" and len(set(question.values)) < len(question.values)


def variant_missing(question: Question) -> bool:
    return len(question.values) < 2 or question.values != tuple(v.value for v in question.variants)


def template_broken(question: Question) -> bool:
    try:
        expand_template(question.template, question.values)
    except InputError:
        return True
    return False


def template_without_slot(question: Question) -> bool:
    """Only a control may ask every value the same: its attribute was removed."""
    return (
        question.control == "none" and not template_broken(question) and not slot_columns(question.template)
    )


def variants_differ_outside_slots(question: Question) -> bool:
    """Expanding the template again must give exactly these variants."""
    if template_broken(question) or variant_missing(question):
        return False
    expanded = expand_template(question.template, question.values)
    return [(v.index, v.text, v.slots) for v in expanded] != [
        (v.index, v.text, v.slots) for v in question.variants
    ]


def variants_alike(question: Question) -> bool:
    texts = [v.text for v in question.variants]
    return question.control == "none" and len(set(texts)) < len(texts)


def a_a_differs(question: Question) -> bool:
    return question.control == "a_a" and (
        len(set(question.values)) > 1 or len({v.text for v in question.variants}) > 1
    )


def label_contradicts_control(question: Question) -> bool:
    """While it is unlabelled, a control contradicts nothing."""
    if question.label == "unlabelled":
        return False
    return (question.label == "control") != (question.control != "none")


def options_unfit(question: Question) -> bool:
    """Free text has no options; a completion has three in three roles; a decision is yes or no."""
    roles = sorted(option.role for option in question.options)
    if question.family == "completion":
        return len(roles) != 3 or len(set(roles)) != 3
    if question.family == "decision":
        return roles != ["no", "yes"]
    return question.family == "open" and bool(roles)


def options_alike(question: Question) -> bool:
    texts = [" ".join(o.text.lower().split()) for o in question.options]
    return len(set(texts)) < len(texts)


def lineage_missing(question: Question) -> bool:
    """A new topic has no parent, but every evolved question was made by an operator."""
    return question.origin == "evolved" and not question.operator


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
