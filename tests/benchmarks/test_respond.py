"""The measurement of model calls measures what it says, at a size where its figures mean nothing."""

from __future__ import annotations

from pathlib import Path

from benchmarks.loopback import Loopback
from benchmarks.respond import compare_with_bare, in_own_process, questions_in


def test_the_same_prompts_are_asked_by_both_and_not_again_from_the_cache(tmp_path: Path) -> None:
    found = compare_with_bare(tmp_path, 0.0, 8, 20)
    assert found["prompts"] == 20
    assert found["cached_requests"] == 0
    assert found["ratio_cpu"] > 0


def test_a_storm_leaves_every_row(tmp_path: Path) -> None:
    faults = {"429": 0.2, "500": 0.1, "disconnect": 0.1, "malformed": 0.1}
    with Loopback(storm=faults, says_when=False) as server:
        place = questions_in(tmp_path, 60)
        found = in_own_process("storm", place, server.url, 16, 60)
        sent = server.counts()
    assert (found["rows"], found["failed"]) == (60, 0)
    assert sent["answer"] == 60 + 2
    assert sent["requests"] > sent["answer"]
