"""Golden values of single commands, of the recipe's schema and of the deployments' forms.

Renew them like those of the builds (see `test_builds.py`).
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.golden.pins import COMMAND_PINS, PINS, found_and_expected, read_expected
from tests.golden.product import Product


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    with Product(tmp_path_factory.mktemp("golden")) as running:
        yield running


@pytest.mark.parametrize("name", COMMAND_PINS)
def test_value_is_the_recorded_one(name: str, product: Product) -> None:
    found, expected = found_and_expected(name, product)
    assert found == expected


def test_only_existing_pins_are_recorded() -> None:
    assert sorted(read_expected()) == sorted(PINS)
