"""What becomes of a build when its machine does not behave? Every disaster, at seeded moments.

    python benchmarks/chaos.py [--quick] [--seed N] [--json]

A small recipe with every stage is built against a model server on loopback, undisturbed; then over and over
with a disaster: killed, out of memory, disk full, read-only cache, damaged cache, clock set, endpoint gone. A
disaster may end in the undisturbed release, to the byte, or stop with an error that says what to do; the next
build must end in the undisturbed release; and no more calls may be sent twice than were in flight or in one
unwritten batch. Ends with 1 where that does not hold.

Builds are forks of one process that has imported everything, and share a Prefect server; in the lines
"whole command" and "clock jump" they are the console command itself. Some disasters need root (mount, cgroup)
or a C compiler (the clock), and are left out elsewhere, with the reason.
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
from benchmarks.chaos_faults import CannotHappenError, Case
from benchmarks.chaos_world import World, open_world

Disaster = Callable[[World, random.Random], Iterator[Case]]

QUICK: dict[str, Disaster] = {
    "SIGKILL": partial(chaos_faults.kill, times=8),
    "disk full": partial(chaos_faults.fill_disk, times=1),
    "read-only cache": partial(chaos_faults.lock_cache, times=1),
    "damaged cache": partial(chaos_faults.damage_cache, times=2),
}
FULL: dict[str, Disaster] = {
    "SIGKILL": partial(chaos_faults.kill, times=100),
    "SIGKILL, whole command": partial(chaos_faults.kill_command, times=3),
    "out of memory, killed": partial(chaos_faults.run_out_of_memory, times=5),
    "out of memory, refused": partial(chaos_faults.limit_memory, times=5),
    "disk full": partial(chaos_faults.fill_disk, times=8),
    "read-only cache": partial(chaos_faults.lock_cache, times=3),
    "damaged cache": partial(chaos_faults.damage_cache, times=14),
    "clock jump": partial(chaos_faults.jump_clock, times=2),
    "endpoint gone": partial(chaos_faults.take_endpoint_away, times=2, seconds=5),
    "endpoint gone for minutes": partial(chaos_faults.take_endpoint_away, times=1, seconds=120),
}


def strike(world: World, disasters: dict[str, Disaster], seed: int) -> tuple[list[Case], dict[str, str]]:
    """Let them happen; the cases, and why some could not."""
    cases: list[Case] = []
    left_out = {}
    for name, disaster in disasters.items():
        started = time.monotonic()
        try:
            for case in disaster(world, random.Random(f"{seed}/{name}")):
                cases.append(case)
                print(case.line() if case.holds else case, file=sys.stderr, flush=True)
        except CannotHappenError as reason:
            left_out[name] = str(reason)
        print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr)
    return cases, left_out


def summary(cases: list[Case]) -> list[dict[str, Any]]:
    """One line for each kind of disaster."""
    lines = []
    for fault in dict.fromkeys(case.fault for case in cases):
        of_it = [case for case in cases if case.fault == fault]
        bounds = [case.bound for case in of_it if case.bound is not None]
        lines.append(
            {
                "fault": fault,
                "times": len(of_it),
                "whole_at_once": sum(c.ended == "whole" for c in of_it),
                "killed": sum(c.ended == "killed" for c in of_it),
                "clear_stop": sum(c.ended == "stop" for c in of_it),
                "whole_after": sum(c.whole_after for c in of_it),
                "sent_again_most": max(c.sent_again for c in of_it),
                "bound": max(bounds) if bounds else None,
                "hold": all(c.holds for c in of_it),
                "said": sorted({c.said for c in of_it if c.said}),
            }
        )
    return lines


def print_table(lines: list[dict[str, Any]], left_out: dict[str, str]) -> None:
    heads = ("what happens", "times", "whole at once", "killed", "clear stop", "then whole")
    print("|", " | ".join((*heads, "most sent twice", "bound")), "|")
    print("|---|---|---|---|---|---|---|---|")
    for line in lines:
        bound = "–" if line["bound"] is None else line["bound"]
        print(
            f"| {line['fault']} | {line['times']} | {line['whole_at_once']} | {line['killed']} | "
            f"{line['clear_stop']} | {line['whole_after']} | {line['sent_again_most']} | {bound} |"
        )
    for line in lines:
        for text in line["said"]:
            print(f"  {line['fault']}: {text}")
    for name, reason in left_out.items():
        print(f"  left out: {name}: {reason}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a dozen moments")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--only", action="append", choices=list(FULL), help="this disaster; repeatable")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as an exception, so that servers are stopped
    disasters = QUICK if given.quick else FULL
    chosen = {name: FULL[name] for name in given.only} if given.only else disasters
    with open_world(given.seed) as world:
        cases, left_out = strike(world, chosen, given.seed)
    lines = summary(cases)
    if given.json:
        print(json.dumps({"lines": lines, "left_out": left_out, "cases": [asdict(c) for c in cases]}))
    else:
        print_table(lines, left_out)
    sys.exit(0 if all(line["hold"] for line in lines) else 1)


if __name__ == "__main__":
    main()
