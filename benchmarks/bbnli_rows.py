"""BBNLI's public files as rows for a model to label: fill `response`, then `counterfoil measure entailment`.

python -m benchmarks.bbnli_rows FOLDER > rows.csv
counterfoil measure entailment rows.csv --format bbnli
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from tasks.files.questions import Statement, read_stereotype, statements_of


def main() -> None:
    """Every statement of every file under the folder, with an empty `response`."""
    writer = csv.DictWriter(sys.stdout, [*Statement.model_fields, "response"])
    writer.writeheader()
    for path in sorted(Path(sys.argv[1]).rglob("*.json")):
        for statement in statements_of(read_stereotype(path)):
            writer.writerow(statement.model_dump() | {"response": ""})


if __name__ == "__main__":
    main()
