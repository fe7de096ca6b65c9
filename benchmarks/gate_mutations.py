"""Count the corruptions of a release that the gate reports.

python -m benchmarks.gate_mutations [--json | --markdown] [--quick]
"""

from __future__ import annotations

import sys

from tests.material.gate_mutations import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
