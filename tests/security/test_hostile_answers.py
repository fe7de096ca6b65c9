"""Answers of judges and recordings that take no time, no stack, and no other meaning."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.answers import RESPONSES
from schemas.errors import InputError
from tasks.files.vocabulary import form_references
from tasks.judges import judge_answers
from tasks.models import run_async
from tasks.models.protocol import Decoding, Request
from tasks.models.replay import Replay, read_texts
from tasks.models.server_errors import retry_delay_s
from tasks.models.structured import find_json_object
from tasks.review.exchange import read_label_studio
from tasks.text.slots import bind_forms, parse_slots, split_at_slots

PARTS = (
    " ", "\n", "{", '{"a', '{"a":', "{[", "{\'", "{a:1}", '{"a":1,}', '{"a":[1 ', "[1] > ", "[1 ", "1 >",
    "doc ", "doc (1) ", "<think>", "<better>[", "</think>", '"', "`", "```json\n", "9",
)  # fmt: skip
"""Repeated, each of them kept one of the readers busy for minutes or hours before, or might have."""
READERS: tuple[Callable[[str, bool], Any], ...] = (
    judge_answers.read_ranking,
    judge_answers.read_comparison,
    judge_answers.read_grade,
    judge_answers.read_spans,
)


@pytest.mark.parametrize("length", [50_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("part", PARTS)
def test_long_answers_of_judges_are_read_in_time(part: str, length: int) -> None:
    """A search that is quadratic in a million characters takes hours."""
    text = part * (length // len(part))
    for read in READERS if length > 50_000 else READERS[:1]:
        with contextlib.suppress(ValueError):
            read(text, False)


@pytest.mark.parametrize("depth", [70, 900, 2_000])
def test_deep_answers_of_judges_are_refused(depth: int) -> None:
    for start, end in (("[", "]"), ('{"a":', "}")):
        text = '{"ranking": ' + start * depth + "1" + end * depth + "}"
        for read in READERS:
            with pytest.raises(ValueError, match=r"\w"):
                read(text, False)


def test_object_with_many_keys_is_read_and_repeated_keys_are_named() -> None:
    many = json.dumps({f"k{n}": n for n in range(50_000)})
    assert len(find_json_object(many)) == 50_000
    with pytest.raises(ValueError, match="'k7' is given twice"):
        find_json_object(many[:-1] + ', "k7": 1}')


def test_last_object_behind_many_braces_is_found() -> None:
    """Answers with formulas and code before the object are ordinary."""
    text = "\\frac{1}{2} and {x} or { y } " * 2_000 + '{"grade": 2}'
    assert find_json_object(text) == {"grade": 2}
    assert judge_answers.read_grade(text, False) == 2


@pytest.mark.parametrize(
    "text", ["[2] > [ 1 ]", "doc 2 > doc (1)", "  [2] >\n [1] ", "Passage [2] = span 1", "2>1"]
)
def test_rankings_are_read_as_before(text: str) -> None:
    groups = judge_answers.read_ranking(text, False).groups
    assert [i for group in groups for i in group] == [2, 1]


@pytest.mark.parametrize("delay", ["1.2.3.4s", "999999999999999999999s", "..s", "-1s", "s", "1e9s", 7, None])
def test_odd_delays_of_servers_are_ignored(delay: Any) -> None:
    assert retry_delay_s({"details": [{"retryDelay": delay}]}) is None


# Templates.

TEMPLATES = ("{{a/", "{{", "{", "}", "}}", "{{a b ", "{{a/b}", "x", "{a", "{{a/b}}")


@pytest.mark.parametrize("part", TEMPLATES)
def test_long_templates_are_split_in_time(part: str) -> None:
    text = part * 100_000
    assert "".join(split_at_slots(text)) == text
    nobody: Any = None
    readers: tuple[Callable[[str], Any], ...] = (
        parse_slots,
        form_references,
        lambda text: bind_forms(text, nobody, ["x"]),
    )
    for read in readers:
        with contextlib.suppress(InputError):
            read(text)


# Recordings.


def recorded(folder: Path, **changes: Any) -> Path:
    row: dict[str, Any] = {
        "question_id": "q1", "variant": 0, "phase": "holdout", "sample": 0, "condition": "plain",
        "model": "m", "revision": "r", "text": "B", "refused": False, "finish_reason": "stop",
        "option_order": [1, 0],
        "option_logprobs": [-0.1, -2.0], "tokens_in": 1, "tokens_out": 1, "failure": None,
        "failure_message": None, "log_perplexity": None,
    }  # fmt: skip
    types = {name: pa.array([value]) for name, value in (row | changes).items()}
    for name, column in types.items():
        if name not in changes or changes[name] is None:
            types[name] = column.cast(RESPONSES.arrow_schema.field(name).type)
    pq.write_table(pa.table(types), folder / "responses.parquet")
    return folder / "responses.parquet"


CELLS: tuple[dict[str, Any], ...] = (
    *({"option_order": order} for order in ([7, 9], [0, 0], [-1, 0], [0], "x")),
    *({"option_logprobs": found} for found in ([1e4, 2.0], [float("nan"), -1.0], [None, -1.0])),
    *({"log_perplexity": found} for found in (float("nan"), float("inf"))),
    *({name: None} for name in ("tokens_in", "text", "refused", "revision", "model", "variant")),
    *({"text": found} for found in (5, b"\xff")),
    {"tokens_in": "x"},
    {"failure": "\x1b[2J"},
    {"failure": "server", "failure_message": None},
)


@pytest.mark.parametrize("cells", CELLS, ids=range(len(CELLS)))
def test_odd_recordings_are_refused_or_read(cells: dict[str, Any], tmp_path: Path) -> None:
    try:
        replay = Replay(str(recorded(tmp_path, **cells)))
    except InputError:
        return
    for tag in list(replay._rows):
        outcome = run_async(replay.ask(Request(tag, (), Decoding(1))))
        assert all(lp <= 0 for lp in getattr(outcome, "option_logprobs", ()))
        assert not any(lp != lp for lp in getattr(outcome, "prompt_logprobs", ()))


LINES = (
    b"[" * 100_000, b'{"tag": "a", "text": ' + b"[" * 100_000, b"\xff\xfe", b"5", b"null", b'{"tag": "a"}',
    b'{"tag": "a", "text": ' + b"9" * 6_000, b"",
    b'{"tag": "a", "text": "\\ud800"}',
)  # fmt: skip


@pytest.mark.parametrize("line", LINES, ids=range(len(LINES)))
def test_odd_lines_of_a_recording_are_refused(line: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(line + b"\n")
    with pytest.raises(InputError):
        read_texts(tmp_path / "x.jsonl")


def test_separators_in_a_text_end_no_line_of_a_recording(tmp_path: Path) -> None:
    text = "x\u2028y\x85z\u001f"
    (tmp_path / "x.jsonl").write_text(json.dumps({"tag": "a", "text": text}, ensure_ascii=False) + "\n")
    assert read_texts(tmp_path / "x.jsonl") == {"a": text}


# Reviews of other tools.

REGION = {"from_name": "verdict", "value": {"choices": ["accepted"]}}
TASKS: tuple[Any, ...] = (
    5, {}, [1], [{"annotations": 5}], [{"annotations": "abc"}], [{"annotations": {"a": 1}}],
    [{"annotations": [{"result": 5}]}], [{"annotations": [{"result": "abc"}]}],
    [{"annotations": [{"result": [5]}]}], [{"annotations": [{"result": [{**REGION, "from_name": ["a"]}]}]}],
    [{"annotations": [{"result": [{**REGION, "value": {"choices": 7}}]}]}],
    [{"annotations": [{"result": [REGION]}]}], [{"data": 3, "annotations": [{"result": [REGION]}]}],
    [{"data": {}, "annotations": [{"completed_by": [1], "result": [REGION]}]}],
)  # fmt: skip


@pytest.mark.parametrize("tasks", TASKS, ids=range(len(TASKS)))
def test_odd_annotations_are_refused(tasks: Any, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps(tasks))
    with pytest.raises(InputError):
        read_label_studio(tmp_path / "x.json")
