"""A question is a group: every value present, variants that differ in their slots only, fitting options."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from schemas.attribute import Attribute
from schemas.errors import InputError
from schemas.question import Question, Variant, question_id
from tasks.checks.findings import Problem, problem
from tasks.text.slots import expand_template


@dataclass(frozen=True)
class Group:
    """A question, and what its template expands to (`None`: its slots cannot be read or do not fit)."""

    question: Question
    expanded: tuple[Variant, ...] | None


Faulty = Callable[[Group], bool]

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
        group = Group(question, _expanded(question))
        for check, is_faulty in GROUP_CHECKS.items():
            if is_faulty(group):
                failing[check].append(question.id)
    return [p for check, ids in failing.items() for p in problem("questions", check, ids)]


def _expanded(question: Question) -> tuple[Variant, ...] | None:
    try:
        return expand_template(question.template, question.values)
    except InputError:
        return None


def id_is_not_content(group: Group) -> bool:
    """A mended text keeps its id, so that releases can be compared; any other id follows from content."""
    return group.question.changed_in is None and group.question.id != question_id(
        family=group.question.family,
        attribute=group.question.attribute,
        framing=group.question.framing,
        control=group.question.control,
        template=group.question.template,
        values=group.question.values,
    )


def values_repeated(group: Group) -> bool:
    return group.question.control != "a_a" and len(set(group.question.values)) < len(group.question.values)


def variant_missing(group: Group) -> bool:
    return len(group.question.values) < 2 or group.question.values != tuple(
        v.value for v in group.question.variants
    )


def template_broken(group: Group) -> bool:
    return group.expanded is None


def template_without_slot(group: Group) -> bool:
    """Only a control may ask every value the same: its attribute was removed."""
    return (
        group.question.control == "none"
        and group.expanded is not None
        and not any(v.slots for v in group.expanded)
    )


def variants_differ_outside_slots(group: Group) -> bool:
    """Expanding the template again must give exactly these variants."""
    if group.expanded is None or variant_missing(group):
        return False
    return [(v.index, v.text, v.slots) for v in group.expanded] != [
        (v.index, v.text, v.slots) for v in group.question.variants
    ]


def variants_alike(group: Group) -> bool:
    texts = [v.text for v in group.question.variants]
    return group.question.control == "none" and len(set(texts)) < len(texts)


def a_a_differs(group: Group) -> bool:
    return group.question.control == "a_a" and (
        len(set(group.question.values)) > 1 or len({v.text for v in group.question.variants}) > 1
    )


def label_contradicts_control(group: Group) -> bool:
    """While it is unlabelled, a control contradicts nothing."""
    if group.question.label == "unlabelled":
        return False
    return (group.question.label == "control") != (group.question.control != "none")


def options_unfit(group: Group) -> bool:
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


def options_alike(group: Group) -> bool:
    texts = [" ".join(o.text.lower().split()) for o in group.question.options]
    return len(set(texts)) < len(texts)


def lineage_missing(group: Group) -> bool:
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
