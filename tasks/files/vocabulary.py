"""Read the vocabulary under data/: attributes, products, templates, taxonomy, frames, lexicons, rubrics.

Names come from recipes. They are looked up in the listing of their folder and never joined to a path.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import chain, product
from pathlib import Path

from schemas.errors import InputError
from schemas.places import explain_path
from schemas.question import Question
from schemas.vocabulary import (
    UNTRANSLATED,
    Attribute,
    Compatibility,
    Concept,
    Frames,
    Lexicon,
    Rubric,
    Superdomain,
    TemplateFile,
    TemplateItem,
    TopicKind,
    Triples,
    Value,
)
from tasks.files.yaml import M, read_yaml, shown_path
from tasks.text.slots import SINGULAR_THEY, parse_slots

Combination = Mapping[str, Value]
"""One value per factor of a product."""
PACKAGES = Path(__file__).resolve().parents[2]
"""The checkout, or the folder that a wheel was installed to."""
GIVEN = "{given}"
"""Placeholder of the given side in a template with `given_from`."""
PARTS = frozenset({"when", "place", "person", "situation", "stake", "ask"})
"""Parts of a frame's pattern."""

_SLOT = re.compile(r"\{\{.*?\}\}", re.DOTALL)
_PART = re.compile(r"<(\w+)>")
_FORM = re.compile(r"\{([A-Za-z_]+)\}")
_REFERENCE = re.compile(r"\{(\w+)\.(\w+)\}")


def vocabulary_dir() -> Path:
    """Return the folder of attributes, templates and prompts.

    This is the folder in `COUNTERFOIL_VOCABULARY` if it is set, otherwise the shipped data.
    """
    own = os.environ.get("COUNTERFOIL_VOCABULARY")
    return Path(own).resolve() if own else shipped_data()


def shipped_data() -> Path:
    """Return `data/` of the checkout, or the copy of it inside an installed wheel."""
    return PACKAGES / "data" if is_checkout() else PACKAGES / "counterfoil" / "data"


def input_path(text: str) -> Path:
    """Return the path of an input file. One below `data/` that is not here is taken from the shipped data.

    Raises:
        InputError: If the text cannot be a path.
    """
    if reason := explain_path(text, supported=True):
        raise InputError(reason, place=text[:100])
    path = Path(text)
    shipped = shipped_data() / Path(*path.parts[1:]) if path.parts[:1] == ("data",) else path
    return path if path.exists() or not shipped.exists() else shipped


def is_checkout() -> bool:
    """Return whether this code runs from a checkout, not from an installed wheel."""
    return (PACKAGES / "pyproject.toml").is_file()


def read_attribute(
    data_dir: Path, attribute_id: str, *, language: str | None = None, inside: tuple[str, ...] = ()
) -> Attribute:
    """Read `data/attributes/<id>.yaml`. A product gets all its combinations.

    Args:
        data_dir: The vocabulary.
        attribute_id: Name of the file.
        language: Language of the words. `data/attributes/<language>/<id>.yaml` is read if it exists. It has
            the value ids of the main file.
        inside: Products that this attribute is a factor of, to find cycles.

    Raises:
        InputError: If the attribute is unknown or inconsistent.
    """
    path = _attribute_file(data_dir / "attributes", attribute_id, language)
    attribute = read_yaml(path, Attribute)
    _check_id(attribute.id, path)
    if path.parent.name != "attributes":
        _check_translation(attribute, path, data_dir)
    _check_unique("value", (value.id for value in attribute.values), path)
    if attribute.product:
        attribute = multiply(attribute, _read_parts(data_dir, attribute, path, inside), shown_path(path))
    _check_translated(attribute, path)
    for value in attribute.values:
        if missing := _missing_words(value):
            raise InputError(f"the value {value.id!r} has no form `{missing}`", place=shown_path(path))
    if attribute.baseline is not None and attribute.baseline not in {v.id for v in attribute.values}:
        raise InputError(
            f"the baseline {attribute.baseline!r} is not a value of the attribute", place=shown_path(path)
        )
    return attribute


def _attribute_file(folder: Path, attribute_id: str, language: str | None) -> Path:
    """Return the file of an attribute in a language, or else its main file, or else the first other one."""
    languages = _listed(folder, "")
    for name in (language, language.split("-")[0]) if language else ():
        if name in languages and attribute_id in _listed(folder / name, ".yaml"):
            return folder / name / f"{attribute_id}.yaml"
    if attribute_id not in _listed(folder, ".yaml"):
        for name in languages:
            if attribute_id in _listed(folder / name, ".yaml"):
                return folder / name / f"{attribute_id}.yaml"
    return _find(folder, attribute_id, "attribute")


def _check_translation(attribute: Attribute, path: Path, data_dir: Path) -> None:
    """Check that a file in `attributes/<language>` has that language, and the value ids of the main file."""
    if attribute.language != path.parent.name:
        raise InputError(
            f"the language is {attribute.language!r}, but the folder is {path.parent.name!r}",
            place=shown_path(path),
            hint=f"write `language: {path.parent.name}`",
        )
    if attribute.id in _listed(data_dir / "attributes", ".yaml"):
        main = read_yaml(data_dir / "attributes" / path.name, Attribute)
        if not main.product:
            check_values((v.id for v in attribute.values), main, "the file", path)


def _check_translated(attribute: Attribute, path: Path) -> None:
    """Check that no word is one that `init attribute` left to be translated."""
    waiting = [
        value.id
        for value in attribute.values
        if any(w.startswith(UNTRANSLATED) for w in (value.title, *chain.from_iterable(value.forms.values())))
    ]
    if waiting:
        raise InputError(
            f"the words of {', '.join(waiting)} are not translated yet",
            place=shown_path(path),
            hint=f"write words in {attribute.language} in place of those that start with {UNTRANSLATED}",
        )


def copied_words(data_dir: Path, questions: Iterable[Question]) -> list[str]:
    """Return one line per attribute file in another language whose words are all those of the main file."""
    asked = sorted({(q.attribute, q.language.split("-")[0]) for q in questions})
    lines = []
    for name, language in asked:
        if language not in attribute_languages(data_dir, name):
            continue
        main, other = read_attribute(data_dir, name), read_attribute(data_dir, name, language=language)
        nouns = {v.id: v.forms.get("noun") for v in main.values}
        if other.language != main.language and all(
            nouns.get(v.id) == v.forms.get("noun") for v in other.values
        ):
            lines.append(
                f"attributes/{language}/{name}.yaml has the same words as the file in {main.language!r}. "
                f"Questions in {language!r} may be asked in two languages"
            )
    return lines


def attribute_languages(data_dir: Path, attribute_id: str) -> list[str]:
    """Return the languages with a file of their own for an attribute, besides that of the main file."""
    folder = data_dir / "attributes"
    return [name for name in _listed(folder, "") if attribute_id in _listed(folder / name, ".yaml")]


def read_question_attributes(data_dir: Path, questions: Iterable[Question]) -> dict[str, Attribute]:
    """Return the attributes of questions by id, with the words of all languages of their questions."""
    languages: dict[str, set[str]] = {}
    for question in questions:
        languages.setdefault(question.attribute, set()).add(question.language)
    return {name: read_in_languages(data_dir, name, spoken) for name, spoken in sorted(languages.items())}


def read_in_languages(data_dir: Path, attribute_id: str, languages: Collection[str]) -> Attribute:
    """Return an attribute with the words of several languages. Those of the main file come first."""
    attribute = read_attribute(data_dir, attribute_id)
    spoken = {name for language in languages for name in (language, language.split("-")[0])}
    for language in sorted(spoken & set(attribute_languages(data_dir, attribute_id))):
        if language != attribute.language:
            local = {v.id: v for v in read_attribute(data_dir, attribute_id, language=language).values}
            values = [_with_words(v, local[v.id]) if v.id in local else v for v in attribute.values]
            attribute = attribute.model_copy(update={"values": tuple(values)})
    return attribute


def _with_words(value: Value, other: Value) -> Value:
    forms = {
        name: tuple(dict.fromkeys((*value.forms.get(name, ()), *other.forms.get(name, ()))))
        for name in {**value.forms, **other.forms}
    }
    return value.model_copy(update={"forms": forms})


def _read_parts(
    data_dir: Path, attribute: Attribute, path: Path, inside: tuple[str, ...]
) -> dict[str, Attribute]:
    """Read the factors of a product. All must be in its language."""
    parts = {}
    for name, part in attribute.product.items():
        if part.attribute in (*inside, attribute.id):
            raise InputError(f"the product {part.attribute!r} is a factor of itself", place=shown_path(path))
        parts[name] = read_attribute(data_dir, part.attribute, inside=(*inside, attribute.id))
        if parts[name].language != attribute.language:
            raise InputError(
                f"the factor {part.attribute!r} is in {parts[name].language!r}, "
                f"the product in {attribute.language!r}",
                place=shown_path(path),
            )
    return parts


def _missing_words(value: Value) -> str | None:
    """Return a form without words. Only the verb ending `s` may be empty, and a `noun` is required."""
    for name, words in {"noun": (), **value.forms}.items():
        if not words or (name != "s" and not all(words)):
            return name
    return None


def read_attributes(data_dir: Path, attribute_ids: Iterable[str]) -> tuple[Attribute, ...]:
    """Read several attributes, each once and in the given order."""
    return tuple(read_attribute(data_dir, attribute_id) for attribute_id in dict.fromkeys(attribute_ids))


def read_all(folder: Path, model: type[M], names: Sequence[str] = ()) -> tuple[M, ...]:
    """Read the named files of a folder as `model`, or all files in the order of their names."""
    wanted = dict.fromkeys(names) or _listed(folder, ".yaml")
    return tuple(read_yaml(_find(folder, name, "file"), model) for name in wanted)


@dataclass(frozen=True)
class TextFault:
    """Why a text cannot be used."""

    place: str
    """The file."""
    text: str
    """Id of the text, with the attribute if only some do not fit."""
    problem: str

    def __str__(self) -> str:
        return f"{self.text}: {self.problem}"


class BrokenTextsError(InputError):
    """Texts of templates that cannot be used. Names all of them at once."""

    def __init__(self, faults: Sequence[TextFault]) -> None:
        """Describe the faults, those of one text together."""
        self.faults = tuple(dict.fromkeys(faults))
        count = len({fault.text.split(" ")[0] for fault in self.faults})
        lines = "".join(f"\n  {fault}" for fault in self.faults)
        super().__init__(
            f"{count} text{'s' if count > 1 else ''} cannot be used:{lines}",
            place=", ".join(dict.fromkeys(fault.place for fault in self.faults)),
            hint="correct the texts, add the missing forms to the attributes, or remove the attributes from "
            "the template",
        )

    def __reduce__(self) -> tuple[object, ...]:
        """Keep the faults when the error is pickled between processes."""
        return (BrokenTextsError, (self.faults,))


def read_templates(
    data_dir: Path, family: str, names: Sequence[str] = (), faults: list[TextFault] | None = None
) -> tuple[TemplateFile, ...]:
    """Read the named files of `data/templates/<family>`, or all. Item ids must be unique.

    Args:
        data_dir: The vocabulary.
        family: Name of the folder.
        names: Names of the files. Default: all.
        faults: Receives the texts that cannot be used. Without a list they raise an error.

    Raises:
        BrokenTextsError: If a text has no slot, or a value lacks a form that a text needs.
        InputError: If a file is unknown or inconsistent.
    """
    found: list[TextFault] = []
    folder = _find(data_dir / "templates", family, "template family", suffix="")
    every = _every_attribute(data_dir)
    files = []
    for name in dict.fromkeys(names) or _listed(folder, ".yaml"):
        path = _find(folder, name, "template file")
        file = read_yaml(path, TemplateFile)
        if file.family != family:
            raise InputError(
                f"the family is {file.family!r}, but the folder is {family!r}", place=shown_path(path)
            )
        file = _completed(file)
        attributes = {name: a for name, a in every.items() if a.language == file.language}
        for item in file.items:
            found += _form_faults(item, attributes, path)
        _check_triples(data_dir, file, path)
        files.append(file)
    _check_unique("template", (item.id for file in files for item in file.items), folder)
    if found and faults is None:
        raise BrokenTextsError(found)
    if faults is not None:
        faults += found
    return tuple(files)


def _completed(file: TemplateFile) -> TemplateFile:
    """Add the file's options to items without any, and write out the implicit twins."""
    items = []
    for item in file.items:
        offered = bool(item.options or item.options_from)
        item = item if offered else item.model_copy(update={"options": file.options})
        items.append(item.model_copy(update={"by_name": False}))
        if item.by_name:
            twin = {"id": f"{item.id}.implicit", "framing": "implicit", "by_name": False}
            items.append(item.model_copy(update={**twin, "text": item.text.replace("{noun}", "{name}")}))
    return file.model_copy(update={"items": tuple(items)})


def read_triples(data_dir: Path, name: str) -> Triples:
    """Read `data/triples/<name>.yaml`."""
    path = _find(data_dir / "triples", name, "list of triples")
    triples = read_yaml(path, Triples)
    _check_id(triples.id, path)
    _check_unique("word", (word.casefold() for triple in triples.triples for word in triple), path)
    return triples


def _check_triples(data_dir: Path, file: TemplateFile, path: Path) -> None:
    """Check that `{given}`, `given_from` and `options_from` are used together, in the file's language."""
    for item in file.items:
        if len({GIVEN in item.text, bool(item.given_from), bool(item.options_from)}) > 1:
            raise InputError(
                f"the template {item.id!r} needs all of {GIVEN} in its text, `given_from` and "
                "`options_from`, or none of them",
                place=shown_path(path),
            )
    for name in sorted({n for item in file.items for n in (*item.given_from, *item.options_from)}):
        if read_triples(data_dir, name).language != file.language:
            raise InputError(
                f"the list of triples {name!r} is not in the file's language {file.language!r}",
                place=shown_path(path),
            )


def read_taxonomy(data_dir: Path, superdomains: Sequence[str] = ()) -> tuple[Superdomain, ...]:
    """Read the named files of `data/taxonomy`, in the given order, or all by name."""
    folder = data_dir / "taxonomy"
    attributes = _listed(data_dir / "attributes", ".yaml")
    return tuple(
        _read_superdomain(_find(folder, name, "superdomain"), attributes, data_dir)
        for name in dict.fromkeys(superdomains) or _listed(folder, ".yaml")
    )


def _read_superdomain(path: Path, attributes: Sequence[str], data_dir: Path) -> Superdomain:
    superdomain = read_yaml(path, Superdomain)
    _check_id(superdomain.id, path)
    _check_unique("domain", (domain.id for domain in superdomain.domains), path)
    topics = [topic for domain in superdomain.domains for topic in domain.topics]
    _check_unique("topic", (topic.id for topic in topics), path)
    for topic in topics:
        _check_known(topic.neutral_for, attributes, f"the topic {topic.id!r}", path)
    _check_kinds(superdomain, data_dir, path)
    return superdomain


def _check_kinds(superdomain: Superdomain, data_dir: Path, path: Path) -> None:
    """Raise `InputError` for the first topic with a kind that the language's compatibility table lacks."""
    table = data_dir / "taxonomy" / "compatibility" / f"{superdomain.language}.yaml"
    if not re.fullmatch(r"[A-Za-z-]+", superdomain.language) or not table.is_file():
        return
    kinds = read_yaml(table, Compatibility).kinds
    for topic in (topic for domain in superdomain.domains for topic in domain.topics):
        if topic.kind not in kinds:
            raise _unknown(topic.kind, kinds, f"the topic {topic.id!r} has an unknown kind", path)


def read_frames(data_dir: Path, language: str) -> Frames:
    """Read `data/frames/<language>.yaml` with the compatibility table of the language.

    Raises:
        InputError: If a pattern has an unknown part, or the table names an unknown group.
    """
    path = _find(data_dir / "frames", language, "language")
    frames = read_yaml(path, Frames)
    _check_id(frames.language, path)
    for pattern in frames.patterns:
        unknown = set(_PART.findall(pattern)) - PARTS
        if unknown:
            raise InputError(
                f"a pattern has an unknown part <{min(unknown)}>",
                place=shown_path(path),
                hint=f"there are: {', '.join(f'<{part}>' for part in sorted(PARTS))}",
            )
    return frames.model_copy(update={"kinds": _read_kinds(data_dir, frames)})


def _read_kinds(data_dir: Path, frames: Frames) -> dict[str, TopicKind]:
    """Read the compatibility table of a language, or nothing if it has none."""
    folder = data_dir / "taxonomy" / "compatibility"
    if frames.language not in _listed(folder, ".yaml"):
        return {}
    path = _find(folder, frames.language, "compatibility table")
    table = read_yaml(path, Compatibility)
    _check_id(table.language, path)
    for kind, fitting in table.kinds.items():
        for name, groups in (("stakes", frames.stakes), ("asks", frames.asks)):
            unknown = sorted(set(getattr(fitting, name)) - set(groups))
            if unknown:
                raise _unknown(unknown[0], groups, f"the kind {kind!r} names unknown {name}", path)
    return table.kinds


def read_lexicon(data_dir: Path, name: str) -> Lexicon:
    """Read `data/lexicons/<name>.yaml`."""
    path = _find(data_dir / "lexicons", name, "lexicon")
    lexicon = read_yaml(path, Lexicon)
    _check_id(lexicon.id, path)
    _check_unique("list", (words.id for words in lexicon.lists), path)
    return lexicon


def read_concept(data_dir: Path, name: str) -> Concept:
    """Read `data/concepts/<name>.yaml`."""
    path = _find(data_dir / "concepts", name, "concept")
    concept = read_yaml(path, Concept)
    _check_id(concept.id, path)
    return concept


def read_rubric(data_dir: Path, name: str) -> Rubric:
    """Read `data/rubrics/<name>.yaml`."""
    path = _find(data_dir / "rubrics", name, "rubric")
    rubric = read_yaml(path, Rubric)
    _check_id(rubric.id, path)
    criteria = (*rubric.criteria, *rubric.versions)
    _check_unique("criterion", (criterion.id for criterion in criteria), path)
    for criterion in criteria:
        if not {criterion.low, criterion.high} <= set(criterion.anchors):
            raise InputError(f"{criterion.id}: both ends of the scale need an anchor", place=shown_path(path))
    for criterion in rubric.versions:
        if criterion.bad is None or criterion.low >= criterion.high:
            raise InputError(
                f"{criterion.id}: the scale of a criterion under `versions` is not valid",
                place=shown_path(path),
                hint="`low` must be below `high`, and `bad` must name the end that means worse treatment",
            )
    return rubric


def form_references(text: str) -> frozenset[str]:
    """Return the forms that a template refers to, in lower case, without written-out slots and `{given}`."""
    return frozenset(name.lower() for name in _FORM.findall(_SLOT.sub("", text.replace(GIVEN, ""))))


def fits(item: TemplateItem, attribute: Attribute) -> bool:
    """Return whether a template allows an attribute, and every value has all its forms."""
    allowed = not item.attributes or attribute.id in item.attributes
    return allowed and not _missing_forms(item, attribute)


def _missing_forms(item: TemplateItem, attribute: Attribute) -> frozenset[str]:
    common = frozenset.intersection(*(_forms_of(value, attribute.language) for value in attribute.values))
    return form_references(item.text) - common


def _forms_of(value: Value, language: str) -> frozenset[str]:
    """Return the forms of a value. An English value without pronouns gets those of singular they."""
    they = language == "en" and "subject" not in value.forms
    return frozenset(value.forms) | (frozenset(SINGULAR_THEY) if they else frozenset())


def _form_faults(item: TemplateItem, attributes: dict[str, Attribute], path: Path) -> list[TextFault]:
    """Return the faults of a text that uses missing forms or has no slot.

    All named attributes must have the forms, or one of all attributes if none is named.
    """
    _check_known((*item.attributes, *item.neutral_for), attributes, f"the template {item.id!r}", path)
    _check_values(item, attributes, path)
    try:
        parse_slots(item.text)
    except InputError as error:
        return [TextFault(shown_path(path), item.id, error.message)]
    if not form_references(item.text) and not _SLOT.search(item.text):
        return [TextFault(shown_path(path), item.id, "it has no slot, so that all its variants are the same")]
    candidates = [attributes[name] for name in item.attributes] or list(attributes.values())
    missing = {attribute.id: forms for attribute in candidates if (forms := _missing_forms(item, attribute))}
    if not missing or not (item.attributes or len(missing) == len(candidates)):
        return []
    if not item.attributes:
        common = frozenset.intersection(*missing.values()) or next(iter(missing.values()))
        return [TextFault(shown_path(path), item.id, f"no attribute has the form {_braced(common)}")]
    return [
        TextFault(
            shown_path(path),
            f"{item.id} with {name}",
            f"it refers to {_braced(forms)}, but {_values_without(attributes[name], forms)} it",
        )
        for name, forms in missing.items()
    ]


def _braced(forms: Iterable[str]) -> str:
    return ", ".join(f"{{{form}}}" for form in sorted(forms))


def _values_without(attribute: Attribute, forms: Collection[str]) -> str:
    lacking = [v.id for v in attribute.values if not set(forms) <= _forms_of(v, attribute.language)]
    return f"the value{'s' if len(lacking) > 1 else ''} {', '.join(lacking)} lack{'s' * (len(lacking) == 1)}"


def _check_values(item: TemplateItem, attributes: dict[str, Attribute], path: Path) -> None:
    """Check that named values belong to the single attribute of the template."""
    if not item.values:
        return
    if len(item.attributes) != 1:
        raise InputError(
            f"the template {item.id!r} names values, but not exactly one attribute",
            place=shown_path(path),
            hint="name the attribute of the values under `attributes`",
        )
    check_values(item.values, attributes[item.attributes[0]], f"the template {item.id!r}", path)


def check_values(values: Iterable[str], attribute: Attribute, who: str, place: Path) -> None:
    """Raise `InputError` for the first value that the attribute does not have."""
    known = [value.id for value in attribute.values]
    for name in values:
        if name not in known:
            raise _unknown(name, known, f"{who} names an unknown value of {attribute.id}:", place)


def _every_attribute(data_dir: Path) -> dict[str, Attribute]:
    return {name: read_attribute(data_dir, name) for name in _listed(data_dir / "attributes", ".yaml")}


def _listed(folder: Path, suffix: str) -> list[str]:
    """Return the names of files with a suffix, without it. With an empty suffix, return the folders."""
    try:
        with os.scandir(folder) as entries:  # unlike `Path.iterdir`, it knows the kind of most entries
            named = [e for e in entries if e.name.endswith(suffix)]
            return sorted(
                e.name.removesuffix(suffix) for e in named if (e.is_file() if suffix else e.is_dir())
            )
    except (FileNotFoundError, NotADirectoryError):
        return []


def _find(folder: Path, name: str, kind: str, *, suffix: str = ".yaml") -> Path:
    listed = _listed(folder, suffix)
    if name not in listed:
        raise _unknown(name, listed, f"there is no {kind}", folder)
    return folder / f"{name}{suffix}"


def _unknown(name: str, known: Iterable[str], sentence: str, place: Path) -> InputError:
    known = sorted(known)
    near = get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known) or '(none)'}"
    return InputError(f"{sentence} {name!r}", place=str(place), hint=hint)


def _check_known(names: Iterable[str], attributes: Collection[str], who: str, place: Path) -> None:
    for name in names:
        if name not in attributes:
            raise _unknown(name, attributes, f"{who} names an unknown attribute", place)


def _check_id(found: str, path: Path) -> None:
    if found != path.stem:
        raise InputError(f"the file name is {path.stem!r}, but the id is {found!r}", place=shown_path(path))


def _check_unique(kind: str, ids: Iterable[str], place: Path) -> None:
    repeated = [name for name, count in Counter(ids).items() if count > 1]
    if repeated:
        raise InputError(f"the {kind} id {repeated[0]!r} occurs twice", place=str(place))


# --- products ---------------------------------------------------------------------------------------------
#
# The values of a product are the combinations of the values of other attributes, worded by patterns:
#
#     product: {race: {attribute: race}, gender: {attribute: gender, values: [woman, man]}}
#     forms: {noun: "{race.described} {gender.bare}"}
#
# gives `white_woman`, "a white woman", with the factors `{race: white, gender: woman}`. If a factor is a
# product, its own factors become those of the value. Pronouns need no pattern.


def multiply(attribute: Attribute, parts: Mapping[str, Attribute], place: str) -> Attribute:
    """Return a product with a value per combination of its factors, and the additions of its file.

    Args:
        attribute: The product as it is in its file.
        parts: The attribute of each factor.
        place: The file, for error messages.

    Raises:
        InputError: If a factor lacks a value or a form, or if the file adds to a value that is no
        combination.
    """
    chosen = {
        name: _chosen(parts[name], part.values, f"{place}: product.{name}")
        for name, part in attribute.product.items()
    }
    own = {value.id: value for value in attribute.values}
    values = []
    for combination in product(*chosen.values()):
        combined = _combined(dict(zip(chosen, combination, strict=True)), attribute.forms, place)
        values.append(_with_own(combined, own.pop(combined.id, None)))
    if own:
        raise InputError(
            f"{next(iter(own))!r} is not a combination of the factors",
            place=place,
            hint=f"ids of combinations look like {values[0].id!r}",
        )
    return attribute.model_copy(update={"values": tuple(values)})


def _chosen(part: Attribute, wanted: Sequence[str], place: str) -> tuple[Value, ...]:
    known = {value.id: value for value in part.values}
    for name in wanted:
        if name not in known:
            raise InputError(
                f"attribute {part.id!r} has no value {name!r}",
                place=place,
                hint=f"it has: {', '.join(known)}",
            )
    return tuple(known[name] for name in wanted) or part.values


def _combined(combination: Combination, patterns: Mapping[str, str], place: str) -> Value:
    """Return the value of a combination. Pronouns come from a factor, other forms from patterns."""
    pronouns = {k: w for value in combination.values() for k, w in value.forms.items() if k in SINGULAR_THEY}
    forms = pronouns | {name: _worded(pattern, combination, place) for name, pattern in patterns.items()}
    factors: dict[str, str] = {}
    for name, value in combination.items():
        factors |= value.factors or {name: value.id}
    valences = [v.valence for v in combination.values() if v.valence is not None]
    return Value(
        id="_".join(value.id for value in combination.values()),
        title=", ".join(value.title for value in combination.values()),
        valence=valences[0] if valences else None,
        forms=forms,
        factors=factors,
        derived=tuple(dict.fromkeys(word for value in combination.values() for word in value.derived)),
    )


def _worded(pattern: str, combination: Combination, place: str) -> tuple[str, ...]:
    """Fill a pattern once per entry of the longest list that it refers to. Shorter lists are repeated."""
    lists = {}
    for name, form in _REFERENCE.findall(pattern):
        value = combination.get(name)
        if value is None or form not in value.forms:
            raise InputError(
                f"the pattern {pattern!r} needs {{{name}.{form}}}, but "
                + (f"value {value.id!r} does not have it" if value else "the product has no such factor"),
                place=place,
            )
        lists[name, form] = value.forms[form]

    def wording(i: int) -> str:
        return _REFERENCE.sub(lambda m: lists[m[1], m[2]][i % len(lists[m[1], m[2]])], pattern)

    return tuple(wording(i) for i in range(max((len(words) for words in lists.values()), default=1)))


def _with_own(combined: Value, own: Value | None) -> Value:
    if own is None:
        return combined
    return combined.model_copy(update={"title": own.title, "forms": {**combined.forms, **own.forms}})
