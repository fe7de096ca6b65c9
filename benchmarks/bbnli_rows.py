"""Convert BBNLI's public files to rows for a model to label.

    python -m benchmarks.bbnli_rows FOLDER > rows.csv
    counterfoil measure entailment rows.csv --format bbnli

Fill the column `response` between the two commands.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

from tasks.files.questions import Statement, read_stereotype, statements_of


def main() -> None:
    """Print every statement of every file in the folder, with an empty `response`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="folder with BBNLI's JSON files")
    folder = parser.parse_args().folder
    writer = csv.DictWriter(sys.stdout, [*Statement.model_fields, "response"])
    writer.writeheader()
    for path in sorted(folder.rglob("*.json")):
        for statement in statements_of(read_stereotype(path)):
            writer.writerow(statement.model_dump() | {"response": ""})


if __name__ == "__main__":
    main()
