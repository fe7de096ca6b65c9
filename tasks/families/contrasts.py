"""Contrasts become questions: two people, one of either side, and two tasks (arXiv 2402.04105).

Explicit questions call two people whose names tell nothing what they are; implicit ones leave it to names.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from schemas.attribute import Attribute, Value
from schemas.ids import derived_seed
from schemas.question import Option
from schemas.recipe import Family, Recipe
from schemas.vocabulary import Contrast, Contrasts, RolePair
from tasks.formats.vocabulary import check_values, read_all
from tasks.text.expansion import Pair, wants_names
from tasks.text.questions import Draft
from tasks.text.slots import Slot


def pairs(recipe: Recipe, data_dir: Path, spec: Family, attributes: Sequence[Attribute]) -> list[Pair]:
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
                made.append(Pair(explicit, implicit, attribute))
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
