"""What all families share that have their answers chosen or read: gathering, invalid answers, order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from schemas.answers import Effect, Response
from schemas.question import Option, Question
from schemas.recipe import Family, Recipe
from schemas.tables import derived_seed
from schemas.vocabulary import Attribute, Contrast, Contrasts, RolePair, Value
from tasks.families import Answered, method_of
from tasks.families.effects import Slice, effect_of, slices_of
from tasks.files.vocabulary import check_values, read_all
from tasks.questions.binding import Draft
from tasks.questions.composition import DraftPair, wants_names
from tasks.stats.resampling import mean_with_interval, sign_flip_p_value
from tasks.text.slots import Slot


def gather_answers(questions: Mapping[str, Question], responses: Iterable[Response]) -> list[Answered]:
    """Questions of templated families with their answers, by question, model and condition; failed calls
    left out. Both phases count: these questions were not selected by their answers."""
    rows: dict[tuple[str, str, str], list[Response]] = defaultdict(list)
    for r in responses:
        question = questions.get(r.question_id)
        if question is not None and question.family != "open" and r.failure is None:
            rows[(r.question_id, r.model, r.condition)].append(r)
    return [
        Answered(questions[q], model, condition, tuple(sorted(found, key=lambda r: r.id)))
        for (q, model, condition), found in sorted(rows.items())
    ]


def family_effects(answered: Sequence[Answered], attributes: Mapping[str, Attribute]) -> list[Effect]:
    """Metrics of all templated families over their slices, and over their conditions."""
    slices: dict[Slice, list[Answered]] = defaultdict(list)
    together: dict[tuple[str, str], list[Answered]] = defaultdict(list)
    for a in answered:
        together[a.question.family, a.model].append(a)
        for where in slices_of(a.question, a.model, a.condition):
            slices[where].append(a)
    effects: list[Effect | None] = []
    for where, inside in sorted(slices.items()):
        effects += method_of(where.family).effects(where, inside, attributes)
    for (family, _), inside in sorted(together.items()):
        if across := method_of(family).across:
            effects += across(inside, attributes)
    return [effect for effect in effects if effect is not None]


def invalid_share(where: Slice, inside: Sequence[Answered]) -> Effect | None:
    """Share of answers that choose no option: counted, never scored."""
    shares = [1 - len(a.valid) / len(a.responses) for a in inside]
    weights = [len(a.responses) for a in inside]
    interval = mean_with_interval(shares, where.seed("invalid"), weights=weights)
    return effect_of(where, "invalid", "share of answers", interval)


def order_effect(where: Slice, inside: Sequence[Answered]) -> Effect | None:
    """How much oftener than by chance the option that was shown first is chosen. Questions whose options
    are not listed to the model have no order."""
    shown = [a for a in inside if a.valid and method_of(a.question.family).form == "letter"]
    if not shown:
        return None
    excess = [
        float(np.mean([r.option == r.option_order[0] for r in a.valid])) - 1 / len(a.question.options)
        for a in shown
    ]
    seed = where.seed("order_effect")
    interval = mean_with_interval(excess, seed, weights=[len(a.valid) for a in shown])
    return effect_of(where, "order_effect", "share above chance", interval, sign_flip_p_value(excess, seed))


def placed_option(question: Question, role: str) -> int:
    """Position of the option of that role; `ValueError` where there is none."""
    return [option.role for option in question.options].index(role)


# Contrasts become questions: two people, one of either side, and two tasks (arXiv 2402.04105).
#
# Explicit questions call two people whose names tell nothing what they are; implicit ones leave it to names.


def pairs(recipe: Recipe, data_dir: Path, spec: Family, attributes: Sequence[Attribute]) -> list[DraftPair]:
    """Every pair of tasks of every contrast within one of the attributes, with an implicit twin where names
    are wanted and there are any."""
    known = {attribute.id: attribute for attribute in attributes}
    made = []
    folder = data_dir / "relative_decision"
    for file in read_all(folder, Contrasts, spec.templates):
        for contrast in file.contrasts:
            if (attribute := known.get(contrast.attribute)) is None:
                continue
            check_values(contrast.values, attribute, f"the contrast {contrast.id!r}", folder)
            for roles in contrast.roles:
                explicit = _explicit(file, contrast, roles, attribute, recipe.seed)
                named = wants_names(spec, attribute)
                implicit = _implicit(file, contrast, roles, attribute, recipe.seed) if named else None
                made.append(DraftPair(explicit, implicit, attribute))
    return made


def _explicit(file: Contrasts, contrast: Contrast, roles: RolePair, attribute: Attribute, seed: int) -> Draft:
    names = file.names[derived_seed(seed, "names", roles.id) % len(file.names)]
    norm, other = (_form(attribute.value(value), "noun") for value in contrast.values)
    persons = [
        file.explicit_person.replace("<name>", name).replace("<noun>", str(Slot(nouns)))
        for name, nouns in zip(names, ((norm, other), (other, norm)), strict=True)
    ]
    called = {"first": names[0], "second": names[1]}
    return _draft(file, contrast, roles, persons, composition=called)


def _implicit(file: Contrasts, contrast: Contrast, roles: RolePair, attribute: Attribute, seed: int) -> Draft:
    """The second person's name comes two places further on: another surname, of the same gender."""
    at = derived_seed(seed, "name", roles.id)
    norm, other = (attribute.value(value) for value in contrast.values)
    persons = [
        str(Slot((_form(norm, "name", at), _form(other, "name", at)))),
        str(Slot((_form(other, "name", at + 2), _form(norm, "name", at + 2)))),
    ]
    return _draft(file, contrast, roles, persons, composition=None)


def _form(value: Value, form: str, place: int = 0) -> str:
    words = value.forms[form]
    return words[place % len(words)]


def _draft(
    file: Contrasts,
    contrast: Contrast,
    roles: RolePair,
    persons: Sequence[str],
    composition: dict[str, str] | None,
) -> Draft:
    text = file.sentence.replace("<first>", persons[0]).replace("<second>", persons[1])
    name = f"{contrast.id}.{roles.id}"
    return Draft(
        text=text.replace("<setting>", roles.setting),
        family="relative_decision",
        superdomain=contrast.superdomain,
        domain=contrast.id,
        topic=roles.id,
        origin="template",
        framing="explicit" if composition else "implicit",
        options=(Option(text=roles.default, role="default"), Option(text=roles.stigma, role="stigma")),
        values=contrast.values,
        template_id=name if composition else f"{name}.implicit",
        composition=composition,
    )
