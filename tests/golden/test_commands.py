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


def commands() -> Iterator[object]:
    """Yield the pins. Those that take more than ten seconds are slow."""
    for name in COMMAND_PINS:
        long = name == "plan forced_choices" or "subtler-biases" in name
        yield pytest.param(name, marks=pytest.mark.slow) if long else name


@pytest.mark.parametrize("name", commands())
def test_value_is_the_recorded_one(name: str, product: Product) -> None:
    found, expected = found_and_expected(name, product)
    assert found == expected


def test_only_existing_pins_are_recorded() -> None:
    assert sorted(read_expected()) == sorted(PINS)
