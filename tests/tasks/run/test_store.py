"""The run directory: keys follow content, and writes are complete or absent."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.errors import GateError, InputError
from schemas.labels import LABEL_HISTORY, LabelChange, StageCounts
from tasks.run.store import (
    Outcome,
    RunContext,
    Stage,
    find_step,
    forget_run,
    read_table,
    run_lock,
    run_stage,
    stage_key,
    write_bytes,
    write_step,
)
from tests.conftest import DATA, recipe_of

MakeContext = Callable[..., RunContext]
CHANGE = LabelChange(
    id="c1",
    subject_id="p1",
    subject_kind="passage",
    query_id="q1",
    step=0,
    before="hard_negative",
    after="positive",
    reason="ranked_above_positive",
    judge="lexical",
    evidence=None,
    stage="relabel",
)


def counted(kept: int = 1, rows: int = 1) -> tuple[StageCounts, ...]:
    return (StageCounts(stage="s", unit="rows", rows=rows, kept=kept, dropped=0, failed=0),)


def test_finished_stage_is_not_done_again(make_context: MakeContext) -> None:
    done = []

    def work(context: RunContext, n: int) -> Outcome:
        done.append(n)
        return Outcome(tables={LABEL_HISTORY: [CHANGE]}, counts=counted())

    stage = Stage("s", 1, run=work)
    context = make_context()
    first, again, other = (run_stage(stage, context, n=n) for n in (1, 1, 2))
    assert done == [1, 2]
    assert first == again
    assert first.key != other.key
    assert read_table(again.table("label_history"), LABEL_HISTORY) == [CHANGE]


def test_key_depends_only_on_the_inputs_of_the_stage(make_context: MakeContext) -> None:
    stage = Stage("s", 1, run=lambda context: Outcome({}, ()), reads=("deduplicate",))
    same = make_context(limits={"max_in_flight": 3})
    other = make_context(deduplicate={"threshold": 80})
    key = stage_key(stage, make_context(), {})
    assert stage_key(stage, same, {}) == key
    assert stage_key(stage, other, {}) != key
    assert stage_key(Stage("s", 2, run=stage.run, reads=stage.reads), same, {}) != key


def test_key_follows_the_vocabulary(make_context: MakeContext, tmp_path: Path) -> None:
    shutil.copytree(DATA / "attributes", tmp_path / "data" / "attributes")
    stage = Stage("s", 1, run=lambda context: Outcome({}, ()), vocabulary=("attributes",))
    context = make_context().model_copy(update={"data_dir": str(tmp_path / "data")})
    before = stage_key(stage, context, {})
    (tmp_path / "data" / "attributes" / "gender.yaml").open("a").write("# a comment\n")
    assert stage_key(stage, context, {}) != before


def test_key_does_not_follow_the_place_of_its_input(make_context: MakeContext, tmp_path: Path) -> None:
    outcome = Outcome(tables={LABEL_HISTORY: [CHANGE]}, counts=())
    refs = [write_step(tmp_path / d, "s", "0", outcome).table("label_history") for d in ("a", "b")]
    stage = Stage("s", 1, run=lambda context, changes: outcome)
    keys = {stage_key(stage, make_context(), {"changes": ref}) for ref in refs}
    assert len(keys) == 1


def test_rows_that_do_not_add_up_stop_the_build(make_context: MakeContext) -> None:
    stage = Stage("s", 1, run=lambda context: Outcome({}, counted(kept=1, rows=2)))
    with pytest.raises(GateError, match="2 rows went in"):
        run_stage(stage, make_context())


def test_failing_stage_leaves_nothing_behind(make_context: MakeContext) -> None:
    def work(context: RunContext) -> Outcome:
        raise InputError("no")

    context = make_context()
    with pytest.raises(InputError):
        run_stage(Stage("s", 1, run=work), context)
    assert not list(Path(context.run_dir).glob("*"))


OUTCOME = Outcome(
    tables={LABEL_HISTORY: [CHANGE]},
    counts=(StageCounts(stage="s", unit="questions", rows=1, kept=1, dropped=0, failed=0),),
)


def test_damaged_table_is_not_believed(tmp_path: Path) -> None:
    home = tmp_path / "s-0"
    write_step(home, "s", "0", Outcome(tables={LABEL_HISTORY: [CHANGE]}, counts=counted()))
    table = home / "label_history.parquet"
    table.write_bytes(table.read_bytes()[:-1])
    assert find_step(home) is None
    assert not home.exists()


def test_moved_run_is_found(tmp_path: Path) -> None:
    write_step(tmp_path / "run" / "s-0", "s", "0", OUTCOME)
    (tmp_path / "run").rename(tmp_path / "moved")
    step = find_step(tmp_path / "moved" / "s-0")
    assert step is not None
    assert read_table(step.table("label_history"), LABEL_HISTORY) == [CHANGE]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff", b'{"stage": "s"}'])
def test_damaged_description_of_a_step_is_not_believed(tmp_path: Path, content: bytes) -> None:
    write_step(tmp_path / "s-0", "s", "0", OUTCOME)
    (tmp_path / "s-0" / "step.json").write_bytes(content)
    assert find_step(tmp_path / "s-0") is None
    assert not (tmp_path / "s-0").exists()


def test_swapped_steps_are_not_believed(tmp_path: Path) -> None:
    for key in ("a", "b"):
        write_step(tmp_path / f"s-{key}", "s", key, OUTCOME)
    (tmp_path / "s-a").rename(tmp_path / "x")
    (tmp_path / "s-b").rename(tmp_path / "s-a")
    (tmp_path / "x").rename(tmp_path / "s-b")
    assert find_step(tmp_path / "s-a") is None
    assert find_step(tmp_path / "s-b") is None


def test_step_with_another_full_key_is_done_again(tmp_path: Path) -> None:
    write_step(tmp_path / "s-0", "s", "0", OUTCOME)
    assert find_step(tmp_path / "s-0", "0") is not None
    assert find_step(tmp_path / "s-0", "01") is None


def test_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    outcome = Outcome(tables={LABEL_HISTORY: [CHANGE]}, counts=counted())
    first, second = (write_step(tmp_path / d, "s", "0", outcome) for d in ("a", "b"))
    assert first.table("label_history").sha256 == second.table("label_history").sha256


def test_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_bytes(path, b"old")
    with pytest.raises(TypeError):
        write_bytes(path, "not bytes")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_two_builds_cannot_share_a_run(tmp_path: Path) -> None:
    with run_lock(tmp_path), pytest.raises(InputError, match="another build"), run_lock(tmp_path):
        pass


def test_run_at_work_cannot_be_forgotten(tmp_path: Path) -> None:
    (tmp_path / "s-0").mkdir()
    with run_lock(tmp_path), pytest.raises(InputError, match="another build"):
        forget_run(tmp_path)
    assert (tmp_path / "s-0").exists()
    forget_run(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [".lock"]


def test_lock_is_free_again_afterwards(tmp_path: Path) -> None:
    for _ in range(2):
        with run_lock(tmp_path):
            pass


def test_context_crosses_a_process_boundary(make_context: MakeContext) -> None:
    import pickle

    context = make_context(recipe_of(seed=3))
    assert pickle.loads(pickle.dumps(context)) == context
