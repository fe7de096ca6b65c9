"""Names for people: short names of models, and titles of attributes and values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import InputError
from schemas.vocabulary import Attribute
from tasks.files.vocabulary import read_attribute
from tasks.text.model_names import short_name, short_names


def read_known_attributes(data_dir: Path, attribute_ids: Iterable[str]) -> dict[str, Attribute]:
    """Return the attributes that the vocabulary has, by id. A release may use others."""
    found = {}
    for name in sorted(set(attribute_ids)):
        with suppress(InputError):
            found[name] = read_attribute(data_dir, name)
    return found


@dataclass(frozen=True)
class Names:
    """The names that readers see: short models, titles of attributes and values."""

    models: Mapping[str, str]
    attributes: Mapping[str, Attribute]

    @classmethod
    def of(cls, models: Iterable[str], attributes: Mapping[str, Attribute]) -> Names:
        """Return the names of these models, and of all values of the attributes."""
        return cls(short_names(models), attributes)

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
