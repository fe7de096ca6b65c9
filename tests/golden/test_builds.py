"""Golden values of whole builds: hashes of every table, the manifest, and figures of the releases.

Renew them with `python -m tests.golden.renew`, or by running these tests with COUNTERFOIL_RENEW_GOLDEN=1,
and read the difference of expected.json before you commit it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.golden.pins import BUILD_PINS, found_and_expected
from tests.golden.product import Product


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    with Product(tmp_path_factory.mktemp("golden")) as running:
        yield running


FIRST = ("build quickstart", "export quickstart", "measure open")
"""Pins of the first build. `make test-all` also computes those of the second."""


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name.startswith(FIRST) else pytest.mark.slow) for name in BUILD_PINS],
)
def test_value_is_the_recorded_one(name: str, product: Product) -> None:
    found, expected = found_and_expected(name, product)
    assert found == expected
