"""Inject faults into builds at seeded moments and check that no work is lost.

    python benchmarks/chaos.py [--quick] [--seed N] [--json]

A small recipe with every stage is built against a model server on the loopback interface, first without
faults and then repeatedly with one: killed, out of memory, disk full, read-only cache, damaged cache, clock
set, endpoint gone. Three conditions must hold:

- A build with a fault ends with a release identical to that of the build without faults, or stops with an
  error that names the next step.
- The next build ends with the identical release.
- At most the calls in flight and those of one unwritten batch are sent twice.

The exit status is 1 if one of them does not hold. Builds are forks of one process with all imports done, and
share a Prefect server. The lines "whole command" and "clock jump" run the console command instead. Some
faults need root (mount, cgroup) or a C compiler (the clock). They are skipped elsewhere, with the reason.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import chaos_faults
from benchmarks.chaos_faults import FaultCase, UnsupportedFaultError
from benchmarks.chaos_world import ChaosWorld, start_world

Fault = Callable[[ChaosWorld, random.Random], Iterator[FaultCase]]

QUICK: dict[str, Fault] = {
    "SIGKILL": partial(chaos_faults.kill, times=3),
    "disk full": partial(chaos_faults.fill_disk, times=1),
    "read-only cache": partial(chaos_faults.make_cache_read_only, times=1),
    "damaged cache": partial(chaos_faults.damage_cache, times=1),
}
FULL: dict[str, Fault] = {
    "SIGKILL": partial(chaos_faults.kill, times=100),
    "SIGKILL, whole command": partial(chaos_faults.kill_command, times=3),
    "out of memory, killed": partial(chaos_faults.run_out_of_memory, times=5),
    "out of memory, refused": partial(chaos_faults.limit_memory, times=5),
    "disk full": partial(chaos_faults.fill_disk, times=8),
    "read-only cache": partial(chaos_faults.make_cache_read_only, times=3),
    "damaged cache": partial(chaos_faults.damage_cache, times=14),
    "clock jump": partial(chaos_faults.jump_clock, times=2),
    "endpoint gone": partial(chaos_faults.stop_endpoint, times=2, seconds=5),
    "endpoint gone for minutes": partial(chaos_faults.stop_endpoint, times=1, seconds=120),
}


def inject(world: ChaosWorld, faults: dict[str, Fault], seed: int) -> tuple[list[FaultCase], dict[str, str]]:
    """Inject all faults.

    Returns:
        The cases, and the reason for every fault that was skipped.
    """
    cases: list[FaultCase] = []
    skipped = {}
    for name, fault in faults.items():
        started = time.monotonic()
        try:
            for case in fault(world, random.Random(f"{seed}/{name}")):
                cases.append(case)
                print(case.line() if case.holds else case, file=sys.stderr, flush=True)
        except UnsupportedFaultError as reason:
            skipped[name] = str(reason)
        print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr)
    return cases, skipped


def summarise(cases: list[FaultCase]) -> list[dict[str, Any]]:
    """Return one row per fault."""
    rows = []
    for fault in dict.fromkeys(case.fault for case in cases):
        group = [case for case in cases if case.fault == fault]
        bounds = [case.bound for case in group if case.bound is not None]
        rows.append(
            {
                "fault": fault,
                "times": len(group),
                "whole_at_once": sum(c.ended == "whole" for c in group),
                "killed": sum(c.ended == "killed" for c in group),
                "clear_stop": sum(c.ended == "stop" for c in group),
                "whole_after": sum(c.whole_after for c in group),
                "sent_again_most": max(c.sent_again for c in group),
                "bound": max(bounds) if bounds else None,
                "hold": all(c.holds for c in group),
                "errors": sorted({c.error for c in group if c.error}),
            }
        )
    return rows


def print_table(lines: list[dict[str, Any]], skipped: dict[str, str]) -> None:
    """Print the rows as a Markdown table, then the errors and the skipped faults."""
    heads = ("fault", "runs", "completed at once", "killed", "clear stop", "completed afterwards")
    print("|", " | ".join((*heads, "most requests sent twice", "bound")), "|")
    print("|---|---|---|---|---|---|---|---|")
    for line in lines:
        bound = "–" if line["bound"] is None else line["bound"]
        print(
            f"| {line['fault']} | {line['times']} | {line['whole_at_once']} | {line['killed']} | "
            f"{line['clear_stop']} | {line['whole_after']} | {line['sent_again_most']} | {bound} |"
        )
    for line in lines:
        for text in line["errors"]:
            print(f"  {line['fault']}: {text}")
    for name, reason in skipped.items():
        print(f"  skipped: {name}: {reason}")


def main() -> None:
    """Inject the chosen faults and print the results. The exit status is 1 if a condition does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="six cases of four faults")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--only", action="append", choices=list(FULL), help="only this fault (repeatable)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    # Turn SIGTERM into an exception, so that the servers are stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    faults = QUICK if options.quick else FULL
    chosen = {name: FULL[name] for name in options.only} if options.only else faults
    with start_world(options.seed) as world:
        cases, skipped = inject(world, chosen, options.seed)
    lines = summarise(cases)
    if options.json:
        print(json.dumps({"lines": lines, "left_out": skipped, "cases": [asdict(c) for c in cases]}))
    else:
        print_table(lines, skipped)
    sys.exit(0 if all(line["hold"] for line in lines) else 1)


if __name__ == "__main__":
    main()
