"""Record today's values as the golden ones: `python -m tests.golden.renew [WORD …]`.

With words, only pins with one of them in their names are renewed. Values that need ../shared keep their
recorded value if it is absent.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.golden.pins import PINS, read_expected, write_expected
from tests.golden.product import Product


def renew(words: list[str]) -> list[str]:
    """Write expected.json. Returns the names of the values that changed."""
    before = read_expected()
    values = {name: value for name, value in before.items() if name in PINS}
    with tempfile.TemporaryDirectory() as folder, Product(Path(folder) / "home") as product:
        for name, pin in PINS.items():
            wanted = not words or any(word in name for word in words)
            if wanted and (pin.needs is None or pin.needs.exists()):
                values[name] = pin.compute(product)
    write_expected(values)
    after = read_expected()
    return sorted(name for name in {*before, *after} if before.get(name) != after.get(name))


if __name__ == "__main__":
    for changed in renew(sys.argv[1:]):
        print(changed)
