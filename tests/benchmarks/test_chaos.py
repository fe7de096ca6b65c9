"""A few of the disasters of benchmarks/chaos.py: each ends whole, or in a stop from which a build goes on."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from benchmarks import chaos_faults
from benchmarks.chaos_faults import CannotHappenError
from benchmarks.chaos_world import World, open_world

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with open_world(3) as opened:
        yield opened


def test_killed_again_and_again_it_ends_in_the_same_bytes(world: World) -> None:
    cases = list(chaos_faults.kill(world, random.Random(1), times=2))
    assert [case for case in cases if not case.holds] == []
    assert len(cases) == 2


def test_with_a_damaged_cache_it_says_what_to_do_and_goes_on(world: World) -> None:
    try:
        header, *_ = cases = list(chaos_faults.damage_cache(world, random.Random(1), times=1))
    except CannotHappenError as reason:
        pytest.skip(str(reason))
    assert [case for case in cases if not case.holds] == []
    assert header.ended == "stop"
    assert "not a database" in header.said


def test_on_a_full_disk_it_says_so_and_goes_on_when_there_is_room(world: World) -> None:
    try:
        cases = list(chaos_faults.fill_disk(world, random.Random(1), times=1))
    except CannotHappenError as reason:
        pytest.skip(str(reason))
    assert [case for case in cases if not case.holds] == []
