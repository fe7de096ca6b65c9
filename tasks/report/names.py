"""Names for people: short names of models, and titles of attributes and values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from schemas.errors import InputError
from schemas.vocabulary import Attribute
from tasks.files.vocabulary import read_attribute, read_taxonomy
from tasks.text.model_names import short_name, short_names


def read_known_attributes(data_dir: Path, attribute_ids: Iterable[str]) -> dict[str, Attribute]:
    """Return the attributes that the vocabulary has, by id. A release may use others."""
    found = {}
    for name in sorted(set(attribute_ids)):
        with suppress(InputError):
            found[name] = read_attribute(data_dir, name)
    return found


def read_topic_titles(data_dir: Path) -> dict[str, str]:
    """Return the titles of all superdomains, and of their domains as `superdomain/domain`."""
    titles = {}
    with suppress(InputError):  # a vocabulary of one's own may have no taxonomy
        for superdomain in read_taxonomy(data_dir):
            titles[superdomain.id] = superdomain.title
            titles |= {f"{superdomain.id}/{domain.id}": domain.title for domain in superdomain.domains}
    return titles


@dataclass(frozen=True)
class Names:
    """The names that readers see: short models, titles of attributes and values."""

    models: Mapping[str, str]
    attributes: Mapping[str, Attribute]
    topics: Mapping[str, str] = field(default_factory=dict)
    """Titles of superdomains and domains (`work/hiring`)."""

    @classmethod
    def of(
        cls,
        models: Iterable[str],
        attributes: Mapping[str, Attribute],
        topics: Mapping[str, str] | None = None,
    ) -> Names:
        """Return the names of these models, and of all values of the attributes."""
        return cls(short_names(models), attributes, topics or {})

    def topic(self, name: str) -> str:
        """Return the title of a superdomain or domain, or its id in words."""
        return self.topics.get(name) or in_words(name.rpartition("/")[2])

    def pair(self, attribute_id: str, pair: str) -> str:
        """Return a pair of values (`woman-man`) with their titles."""
        values = self.attributes[attribute_id].values if attribute_id in self.attributes else ()
        titles = {value.id: value.title for value in values}
        for first in titles:
            if pair.startswith(f"{first}-") and (second := pair.removeprefix(f"{first}-")) in titles:
                return f"{titles[first]} − {titles[second]}"
        return pair.replace("-", " − ").replace("_", " ")

    def model(self, model: str) -> str:
        """Return the short name of a model."""
        return self.models.get(model) or short_name(model)

    def attribute(self, attribute_id: str) -> str:
        """Return the title of an attribute, or its id in words if the vocabulary does not have it."""
        known = self.attributes.get(attribute_id)
        return known.title if known else in_words(attribute_id)

    def value(self, attribute_id: str, value_id: str) -> str:
        """Return the title of a value, or its id in words."""
        known = self.attributes.get(attribute_id)
        with suppress(KeyError):
            if known:
                return known.value(value_id).title
        return in_words(value_id)


def in_words(name: str) -> str:
    """Return an id as words."""
    return name.replace("_", " ")
