"""Parts run in their order, and no further than the caller reads."""

from tasks.run.parts import run_sequentially


def test_jobs_are_done_in_turn() -> None:
    assert list(run_sequentially(str, [3, 1])) == ["3", "1"]


def test_a_part_runs_when_its_result_is_read() -> None:
    done: list[int] = []
    results = iter(run_sequentially(done.append, range(5)))
    next(results)
    assert done == [0]
