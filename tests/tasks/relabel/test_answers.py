"""Answers of judges are parsed in every form, and calls that are too long are split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tasks.judges.judge_answers import (
    is_no_answer,
    read_comparison,
    read_grade,
    read_ranking,
    read_spans,
    unquoted,
)
from tasks.judges.relevance import ranks_of
from tasks.models import ModelSettings
from tasks.relabel import relabel_file
from tests.servers.openai_server import OpenAIServer, Reply, status
from tests.tasks.relabel.test_file import settings
from tests.tasks.relabel.test_integrity import BUILT, CASES, GUIDE, OTHERS, QUERY, needs_cases, write_lines
from tests.tasks.relabel.test_judges import free

__all__ = ["settings"]


@pytest.mark.parametrize(
    ("text", "groups"),
    [
        ('{"ranking": [2, 1, 3]}', ((2,), (1,), (3,))),
        ("[2] > [1] > [3]", ((2,), (1,), (3,))),
        ("[2] > [1] = [3]", ((2,), (1, 3))),
        ('["2", "1"]', ((2,), (1,))),
        ('{"ranking": ["[2]", "Doc (1)", "3"]}', ((2,), (1,), (3,))),
        ('{"ranking": [[2, 1], 3]}', ((2, 1), (3,))),
        ('{"ranking": "[2] > [1]"}', ((2,), (1,))),
        ('{"ranking": [2.0, 1, 3.0]}', ((2,), (1,), (3,))),
        ("Ranking:\n1. [2]\n2. [3] - it names the year\n3. Passage 1", ((2,), (3,), (1,))),
        ("[Passage 2] > [Passage 1]", ((2,), (1,))),
        ("**[3]** > **[1]** = [2]", ((3,), (1, 2))),
        ("[2] ≻ [1] → [3]", ((2,), (1,), (3,))),
        ("[2] >> [1]", ((2,), (1,))),
        ("d3 > d1", ((3,), (1,))),
        ("3 1 2", ((3,), (1,), (2,))),
        ("<think>[1] > [2] is wrong, 3 spans</think>\n[2] > [1]", ((2,), (1,))),
        ("First I thought [1] > [2]. After reading again:\nDoc (2) > Doc (1)", ((2,), (1,))),
        ("The 2 spans are close.\n\n2 > 1 = 3", ((2,), (1, 3))),
        ("[2]", ((2,),)),
        ("[2, 1]", ((2,), (1,))),
    ],
)
def test_ranking_is_read(text: str, groups: tuple[tuple[int, ...], ...]) -> None:
    assert read_ranking(text, False).groups == groups


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I cannot rank 3 spans.",
        "1. I cannot rank\n2. these",
        "2 of 3 spans",
        "{}",
        '{"ranking": []}',
        "none of them",
    ],
)
def test_text_without_a_ranking_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        read_ranking(text, False)


def test_ranks_of_ties_and_of_ids_that_are_missing_repeated_or_out_of_range() -> None:
    assert ranks_of([(2,), (1, 3)], 3) == (1, 0, 1)
    assert ranks_of([(9,), (2,), (1,)], 3) == (1, 0, None)
    assert ranks_of([(2,), (2,), (1,)], 3) == (0, None, None)


@pytest.mark.parametrize(
    ("text", "better", "worse"),
    [
        ('{"better": [1], "worse": []}', {1}, set()),
        ('{"better": ["Doc (1)", "[3]"], "worse": ["2"]}', {1, 3}, {2}),
        ("<better> fine: [Doc (1), Doc (3)] </better> <worse> [] </worse>", {1, 3}, set()),
        ('<think>{"better": [2]}</think>{"better": [1], "worse": [2]}', {1}, {2}),
    ],
)
def test_comparison_is_read(text: str, better: set[int], worse: set[int]) -> None:
    found = read_comparison(text, False)
    assert (found.better, found.worse, found.cut_off) == (better, worse, False)


@pytest.mark.parametrize(
    "text", ['{"better": [], "worse": [', '{"better": [], "worse": []', '{"better": [', "{"]
)
@pytest.mark.parametrize("cut_off", [True, False])
def test_comparison_that_was_cut_off_before_it_named_anything_is_none(text: str, cut_off: bool) -> None:
    with pytest.raises(ValueError, match=r"cut off|expected"):
        read_comparison(text, cut_off)


def test_grade_and_evidence_are_read() -> None:
    assert [read_grade(text, False) for text in ('{"grade": "2"}', "3", "Grade: 1.", '{"grade": 0}')] == [
        2,
        3,
        1,
        0,
    ]
    assert read_spans('{"evidence": "NO_ANSWER."}', False) == read_spans('"NO_ANSWER"', False) == ()
    assert read_spans("<think>hm</think>It was lit.", False) == ("It was lit.",)
    assert read_spans('{"evidence": []}', False) == ()
    for text, cut_off in (('{"evidence": ""}', False), ('{"evidence": "', True), ('{"evidence": [', True)):
        with pytest.raises(ValueError):  # noqa: PT011
            read_spans(text, cut_off)
    assert is_no_answer("“No answer”.")
    assert not is_no_answer("No answer was given by the board.")
    assert [unquoted(text) for text in ('"It was lit."', "“It was lit”.", 'He said "x"')] == [
        "It was lit.", "It was lit", 'He said "x"'
    ]  # fmt: skip


def cascade(
    source: Path, server: OpenAIServer, settings: ModelSettings, tmp_path: Path, **options: Any
) -> dict[str, Any]:
    return relabel_file(
        source,
        settings=free(settings, server),
        strategy="cascade",
        judges=(server.model(),),
        out=tmp_path / "out.jsonl",
        allow_abstentions=True,
        **options,
    )


def test_missing_entries_of_truncated_lists_are_abstentions(tmp_path: Path, settings: ModelSettings) -> None:
    source = write_lines(tmp_path / "in.jsonl", [{"query": QUERY, "pos": [BUILT], "neg": [GUIDE, *OTHERS]}])
    for answer, promoted in (('{"better": [], "worse": [', 0), ('{"better": [1], "worse": [', 1)):
        with OpenAIServer(Reply(answer, finish_reason="length")) as server:
            found = cascade(source, server, settings, tmp_path)
        assert (found["promoted"], found["abstained"], found["kept"]) == (promoted, 4 - promoted, 0)
        assert found["report"]["judged"]["asked"] == 4


class _SmallServer:
    """A server that rejects calls above a length."""

    def __init__(self, characters: int) -> None:
        self.characters = characters

    def fault(self, number: int, body: dict[str, Any]) -> Any:
        size = sum(len(message["content"]) for message in body["messages"])
        message = "This model's maximum context length is 2048 tokens. However, you requested more."
        return (
            status(400, message=message, error_code="context_length_exceeded")
            if size > self.characters
            else None
        )


@needs_cases
def test_case_of_a_long_passage_is_split(tmp_path: Path, settings: ModelSettings) -> None:
    small = _SmallServer(8000)
    with OpenAIServer('{"better": [], "worse": []}', faults=small.fault) as server:
        found = cascade(CASES / "41_long.jsonl", server, settings, tmp_path)
    assert found["abstained"] == 1
    assert found["report"]["judged"]["abstentions"] == {"passage_too_long": 1}
    assert found["kept"] == found["candidates"] - 1


@needs_cases
def test_case_of_truncated_answers(tmp_path: Path, settings: ModelSettings) -> None:
    with OpenAIServer(Reply('{"better": [], "worse": [', finish_reason="length")) as server:
        found = cascade(CASES / "40_llm.jsonl", server, settings, tmp_path)
    assert (found["abstained"], found["kept"]) == (found["candidates"], 0)


def test_plan_estimates_without_a_call_and_uses_the_measured_rate(
    tmp_path: Path, settings: ModelSettings
) -> None:
    rows = [{"query": f"{QUERY} {i}", "pos": [BUILT], "neg": [GUIDE, *OTHERS]} for i in range(20)]
    source = write_lines(tmp_path / "in.jsonl", rows)
    with OpenAIServer('{"better": [], "worse": []}') as server:
        before = cascade(source, server, settings, tmp_path, plan=True)
        assert server.requests == []
        assert (before["calls"], before["rows"], before["seconds"]) == (20, 20, None)
        assert before["tokens_in"] > 20 * 100
        assert not (tmp_path / "out.jsonl").exists()
        found = cascade(source, server, settings, tmp_path, limit=5, max_in_flight=2)
        assert (found["rows"], len(server.requests), server.peak_in_flight <= 2) == (5, 5, True)
        after = cascade(source, server, settings, tmp_path, plan=True)
    assert after["seconds"] > 0
    assert json.loads((settings.run_dir / "relabel_rate.json").read_text())


@pytest.mark.parametrize("better", ['[{"id": 1}]', '["the first"]', "[true]", "[1.5]", "[[1]]"])
def test_list_with_an_entry_that_is_no_id_never_means_no_false_negatives(better: str) -> None:
    with pytest.raises(ValueError, match="not the id"):
        read_comparison(f'{{"better": {better}, "worse": []}}', False)


def test_whole_numbers_and_words_for_nothing_are_read() -> None:
    assert read_comparison('{"better": [2.0, "3"], "worse": ["none"]}', False).better == {2, 3}
    assert read_comparison('{"better": [null], "worse": [""]}', False).worse == frozenset()
    assert read_grade('{"grade": 2.0}', False) == 2
    assert read_spans('{"evidence": "NO_ANSWER: the passage is about bread"}', False) == ()
    assert read_spans("No answer came from the harbour board.", False)
