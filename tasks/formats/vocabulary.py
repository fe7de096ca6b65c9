"""The files under data/: attributes, templates, taxonomy, frames, lexicons, rubrics.

Names come from recipes, so they are never joined to a path: a name is looked up in the listing of its
folder, and what is not listed does not exist.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path

from schemas.attribute import Attribute, Value
from schemas.errors import InputError
from schemas.vocabulary import Frames, Lexicon, Rubric, Superdomain, TemplateFile, TemplateItem
from tasks.formats.yaml_file import read_yaml
from tasks.text.slots import SINGULAR_THEY

PARTS = frozenset({"when", "place", "person", "situation", "stake", "ask"})
"""What a frame's pattern is made of."""

_SLOT = re.compile(r"\{\{.*?\}\}", re.DOTALL)
_PART = re.compile(r"<(\w+)>")
_FORM = re.compile(r"\{([A-Za-z_]+)\}")


def read_attribute(data_dir: Path, attribute_id: str) -> Attribute:
    """`data/attributes/<id>.yaml`. Raises `InputError` where it is unknown or inconsistent."""
    path = _find(data_dir / "attributes", attribute_id, "attribute")
    attribute = read_yaml(path, Attribute)
    _check_id(attribute.id, path)
    _check_unique("value", (value.id for value in attribute.values), path)
    for value in attribute.values:
        if missing := _missing_words(value):
            raise InputError(f"the value {value.id!r} has no form `{missing}`", place=str(path))
    if attribute.baseline is not None and attribute.baseline not in {v.id for v in attribute.values}:
        raise InputError(f"the baseline {attribute.baseline!r} is not a value", place=str(path))
    return attribute


def _missing_words(value: Value) -> str | None:
    """A form without a word: only the verb ending `s` may be empty, and every value has a `noun`."""
    for name, words in {"noun": (), **value.forms}.items():
        if not words or (name != "s" and not all(words)):
            return name
    return None


def read_attributes(data_dir: Path, attribute_ids: Iterable[str]) -> tuple[Attribute, ...]:
    """Several attributes in the order asked for, each once."""
    return tuple(read_attribute(data_dir, attribute_id) for attribute_id in dict.fromkeys(attribute_ids))


def read_templates(data_dir: Path, family: str, names: Sequence[str] = ()) -> tuple[TemplateFile, ...]:
    """`data/templates/<family>/*.yaml`, or those named. Item ids are unique over what is read."""
    folder = _find(data_dir / "templates", family, "template family", suffix="")
    attributes = _every_attribute(data_dir)
    files = []
    for name in dict.fromkeys(names) or _listed(folder, ".yaml"):
        path = _find(folder, name, "template file")
        file = read_yaml(path, TemplateFile)
        if file.family != family:
            raise InputError(f"the file says family {file.family!r}, its folder {family!r}", place=str(path))
        for item in file.items:
            _check_forms(item, attributes, path)
        files.append(file)
    _check_unique("template", (item.id for file in files for item in file.items), folder)
    return tuple(files)


def read_taxonomy(data_dir: Path, superdomains: Sequence[str] = ()) -> tuple[Superdomain, ...]:
    """`data/taxonomy/*.yaml` by name, or those asked for in that order."""
    folder = data_dir / "taxonomy"
    attributes = _listed(data_dir / "attributes", ".yaml")
    return tuple(
        _read_superdomain(_find(folder, name, "superdomain"), attributes)
        for name in dict.fromkeys(superdomains) or _listed(folder, ".yaml")
    )


def _read_superdomain(path: Path, attributes: Sequence[str]) -> Superdomain:
    superdomain = read_yaml(path, Superdomain)
    _check_id(superdomain.id, path)
    _check_unique("domain", (domain.id for domain in superdomain.domains), path)
    topics = [topic for domain in superdomain.domains for topic in domain.topics]
    _check_unique("topic", (topic.id for topic in topics), path)
    for topic in topics:
        _check_known(topic.neutral_for, attributes, f"the topic {topic.id!r}", path)
    return superdomain


def read_frames(data_dir: Path, language: str) -> Frames:
    """`data/frames/<language>.yaml`"""
    path = _find(data_dir / "frames", language, "language")
    frames = read_yaml(path, Frames)
    _check_id(frames.language, path)
    for pattern in frames.patterns:
        unknown = set(_PART.findall(pattern)) - PARTS
        if unknown:
            raise InputError(
                f"a pattern has a part <{min(unknown)}>",
                place=str(path),
                hint=f"there are: {', '.join(f'<{part}>' for part in sorted(PARTS))}",
            )
    return frames


def read_lexicon(data_dir: Path, name: str) -> Lexicon:
    """`data/lexicons/<name>.yaml`"""
    path = _find(data_dir / "lexicons", name, "lexicon")
    lexicon = read_yaml(path, Lexicon)
    _check_id(lexicon.id, path)
    _check_unique("list", (words.id for words in lexicon.lists), path)
    return lexicon


def read_rubric(data_dir: Path, name: str) -> Rubric:
    """`data/rubrics/<name>.yaml`"""
    path = _find(data_dir / "rubrics", name, "rubric")
    rubric = read_yaml(path, Rubric)
    _check_id(rubric.id, path)
    _check_unique("criterion", (criterion.id for criterion in rubric.criteria), path)
    for criterion in rubric.criteria:
        if not {criterion.low, criterion.high} <= set(criterion.anchors):
            raise InputError(f"{criterion.id}: both ends of the scale need an anchor", place=str(path))
    return rubric


def form_references(text: str) -> frozenset[str]:
    """The forms that a template refers to, in lower case; written-out slots are not references."""
    return frozenset(name.lower() for name in _FORM.findall(_SLOT.sub("", text)))


def fits(item: TemplateItem, attribute: Attribute) -> bool:
    """Whether a template can be bound to an attribute: it allows it, and every value has every form."""
    allowed = not item.attributes or attribute.id in item.attributes
    return allowed and not _missing_forms(item, attribute)


def _missing_forms(item: TemplateItem, attribute: Attribute) -> frozenset[str]:
    common = frozenset.intersection(*(_forms_of(value) for value in attribute.values))
    return form_references(item.text) - common


def _forms_of(value: Value) -> frozenset[str]:
    """A value that says nothing about pronouns takes those of singular they."""
    return frozenset(value.forms) | (frozenset() if "subject" in value.forms else frozenset(SINGULAR_THEY))


def _check_forms(item: TemplateItem, attributes: dict[str, Attribute], path: Path) -> None:
    """Every named attribute exists and has the forms; with none named, some attribute has them."""
    _check_known((*item.attributes, *item.neutral_for), attributes, f"the template {item.id!r}", path)
    candidates = [attributes[name] for name in item.attributes] or list(attributes.values())
    missing = [_missing_forms(item, attribute) for attribute in candidates]
    if (item.attributes and any(missing)) or all(missing):
        forms = ", ".join(f"{{{form}}}" for form in sorted(next(filter(None, missing))))
        raise InputError(
            f"the template {item.id!r} refers to {forms}, which its attributes do not have",
            place=str(path),
            hint="forms stand under `forms:` of each value in data/attributes",
        )


def _every_attribute(data_dir: Path) -> dict[str, Attribute]:
    return {name: read_attribute(data_dir, name) for name in _listed(data_dir / "attributes", ".yaml")}


def _listed(folder: Path, suffix: str) -> list[str]:
    """Names in a folder: files of that suffix without it; with an empty suffix, folders."""
    if not folder.is_dir():
        return []
    entries = [e for e in folder.iterdir() if (e.is_file() if suffix else e.is_dir())]
    return sorted(e.name.removesuffix(suffix) for e in entries if e.name.endswith(suffix))


def _find(folder: Path, name: str, what: str, *, suffix: str = ".yaml") -> Path:
    listed = _listed(folder, suffix)
    if name not in listed:
        raise _unknown(name, listed, f"there is no {what} that", folder)
    return folder / f"{name}{suffix}"


def _unknown(name: str, known: Iterable[str], sentence: str, place: Path) -> InputError:
    known = sorted(known)
    near = get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(known) or '(none)'}"
    return InputError(f"{sentence} is called {name!r}", place=str(place), hint=hint)


def _check_known(names: Iterable[str], attributes: Collection[str], who: str, place: Path) -> None:
    for name in names:
        if name not in attributes:
            raise _unknown(name, attributes, f"{who} names an attribute, but none", place)


def _check_id(found: str, path: Path) -> None:
    if found != path.stem:
        raise InputError(f"the file is called {path.stem!r}, its id is {found!r}", place=str(path))


def _check_unique(what: str, ids: Iterable[str], place: Path) -> None:
    twice = [name for name, count in Counter(ids).items() if count > 1]
    if twice:
        raise InputError(f"the {what} id {twice[0]!r} stands twice", place=str(place))
