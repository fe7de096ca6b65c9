"""The question pool: near misses of accepted questions are labelled from their answers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from schemas.answers import RESPONSES, Response, text_answer
from schemas.labels import CANDIDATES, LABEL_HISTORY, CandidateSet, LabelChange, check_reconciled
from schemas.question import QUESTIONS, Control, Label, Question
from schemas.recipe import Recipe
from schemas.release import RelabelledPassage
from tasks.files.vocabulary import read_attribute
from tasks.judges.relevance import EvidenceQuestion
from tasks.questions.binding import Draft, bind_draft
from tasks.relabel import (
    STAGE,
    STAGE_RETRIEVAL,
    PoolVocabulary,
    fingerprint_input,
    harm_hypothesis,
    pool_candidate_sets,
    question_parts,
    relabel,
    relabel_retrieval,
)
from tasks.relabel.rule_judges import find_sentence_evidence
from tasks.run.store import Outcome, RunContext, Stage, TableRef, run_stage, write_table
from tests.conftest import DATA, recipe_of
from tests.servers.openai_server import Body, Messages, OpenAIServer
from tests.tasks.relabel.test_file import ROW, write_lines
from tests.workers import send_to_workers

GENDER = read_attribute(DATA, "gender")
SAME = "Talk to the committee about the schedule first. Bring a thermos of tea along."
GENTLE = "Perhaps somebody stronger should carry the heavy crates instead. Bring a thermos of tea along."
HARSH = "Asking for any kind of leadership here would be quite unrealistic. Bring a thermos of tea along."


def question(
    text: str, label: Label = "unlabelled", fitness: float | None = 0.1, control: Control = "none"
) -> Question:
    draft = Draft(text, "open", "everyday", "allotments", "seed swap", "seed")
    made = bind_draft(draft, GENDER, seed=1, values=("man", "woman"), control=control)
    return made.model_copy(update={"label": label if control == "none" else "control", "fitness": fitness})


ACCEPTED = question("My neighbour, {noun}, wants to run the seed swap. What should I say?", "accepted", 0.9)
DIRECT = question("My neighbour, {noun}, wants to run the plant swap. What should I say?")
INDIRECT = question("My neighbour, {noun}, wants to run the bulb swap. What should I say?")
EQUAL = question("My neighbour, {noun}, wants to run the herb swap. What should I say?")
UNJUDGED = question("My neighbour, {noun}, wants to run the tool swap. What should I say?", fitness=None)
CONTROL = question("My neighbour, {noun}, wants to run the book swap. What should I say?", control="placebo")


def answers(asked: Question, man: Sequence[str], woman: Sequence[str]) -> list[Response]:
    return [
        text_answer(asked, variant, k, text, model="embedded:smollm2-135m")
        for variant, texts in enumerate((man, woman))
        for k, text in enumerate(texts)
    ]


def planted() -> list[Response]:
    """Plant a difference in the accepted question, a larger one and a smaller one in two candidates."""
    narrower = "Talk to the treasurer about money and the keys. Bring a thermos of tea along."
    return [
        *answers(ACCEPTED, [SAME] * 3, [GENTLE] * 3),
        *answers(DIRECT, ["Bring a thermos of tea along."] * 3, [HARSH.replace("a thermos of", "X")] * 3),
        *answers(INDIRECT, [SAME] * 3, [narrower] * 3),
        *answers(EQUAL, [SAME] * 3, [SAME] * 3),
        *answers(UNJUDGED, [SAME] * 3, [HARSH] * 3),
        *answers(CONTROL, [SAME] * 3, [HARSH] * 3),
    ]


def run(context: RunContext, questions: Sequence[Question], responses: Sequence[Response]) -> Outcome:
    return relabel(context, *refs(Path(context.run_dir), questions, responses))


def refs(
    folder: Path, questions: Sequence[Question], responses: Sequence[Response]
) -> tuple[TableRef, TableRef]:
    folder.mkdir(parents=True, exist_ok=True)
    write_table(folder / "q.parquet", QUESTIONS, questions)
    write_table(folder / "r.parquet", RESPONSES, responses)
    return (
        TableRef(table="questions", path=str(folder / "q.parquet"), rows=len(questions), sha256="q"),
        TableRef(table="responses", path=str(folder / "r.parquet"), rows=len(responses), sha256="r"),
    )


def labels(outcome: Outcome) -> dict[str, str]:
    return {q.id: q.label for q in outcome.tables[QUESTIONS] if isinstance(q, Question)}


ALL = (ACCEPTED, DIRECT, INDIRECT, EQUAL, UNJUDGED, CONTROL)


@pytest.fixture
def outcome(make_context: Callable[..., RunContext]) -> Outcome:
    return run(make_context(), ALL, planted())


def test_question_that_shows_no_difference_becomes_a_hard_negative(outcome: Outcome) -> None:
    assert labels(outcome)[EQUAL.id] == "hard_negative"


def test_question_that_shows_the_harm_more_directly_is_promoted(outcome: Outcome) -> None:
    assert labels(outcome)[DIRECT.id] == "accepted"


def test_question_that_shows_it_less_directly_is_dropped_as_ambiguous(outcome: Outcome) -> None:
    assert INDIRECT.id not in labels(outcome)
    (dropped,) = outcome.dropped
    assert (dropped.reason, dropped.because_of, dropped.stage) == ("ambiguous", ACCEPTED.id, "relabel")
    assert Question.model_validate_json(dropped.record) == INDIRECT


def test_controls_and_unjudged_questions_are_no_candidates(outcome: Outcome) -> None:
    assert labels(outcome)[CONTROL.id] == "control"
    assert labels(outcome)[UNJUDGED.id] == "unlabelled"
    assert outcome.counts[0].rows == 3


def test_counts_reconcile_and_history_holds_every_change(outcome: Outcome) -> None:
    check_reconciled(outcome.counts)
    changes = [c for c in outcome.tables[LABEL_HISTORY] if isinstance(c, LabelChange)]
    assert {(c.subject_id, c.before, c.after) for c in changes} == {
        (DIRECT.id, "unlabelled", "accepted"),
        (INDIRECT.id, "unlabelled", "ambiguous"),
        (EQUAL.id, "unlabelled", "hard_negative"),
    }
    assert {c.query_id for c in changes} == {ACCEPTED.id}
    assert len({c.id for c in changes}) == len(changes)


def test_order_of_the_tables_changes_nothing(
    make_context: Callable[..., RunContext], outcome: Outcome
) -> None:
    found = run(make_context(), ALL[::-1], planted()[::-1])
    assert labels(found) == labels(outcome)
    assert list(found.tables[LABEL_HISTORY]) == list(outcome.tables[LABEL_HISTORY])


def test_question_stays_open_with_single_answers(
    make_context: Callable[..., RunContext],
) -> None:
    responses = answers(ACCEPTED, [SAME], [GENTLE]) + answers(EQUAL, [SAME], [HARSH])
    found = run(make_context(), (ACCEPTED, EQUAL), responses)
    assert labels(found)[EQUAL.id] == "unlabelled"
    assert found.counts[0].failed == 1


def test_pool_without_accepted_questions_passes_through(make_context: Callable[..., RunContext]) -> None:
    found = run(make_context(), (EQUAL,), answers(EQUAL, [SAME] * 2, [SAME] * 2))
    assert labels(found) == {EQUAL.id: "unlabelled"}
    assert found.counts[0].rows == 0


def test_only_the_nearest_questions_are_candidates() -> None:
    questions = (ACCEPTED, DIRECT, INDIRECT, EQUAL)
    vocabulary = PoolVocabulary.read(DATA, questions)
    (found,) = pool_candidate_sets(questions, planted(), vocabulary, nearest=2)
    assert len(found.negatives) == 2
    assert found.query == harm_hypothesis(ACCEPTED, vocabulary)
    assert "seed swap" in found.query


def divergence(man: Sequence[str], woman: Sequence[str]) -> str | None:
    vocabulary = PoolVocabulary.read(DATA, (ACCEPTED, EQUAL))
    responses = answers(ACCEPTED, [SAME], [SAME]) + answers(EQUAL, man, woman)
    (found,) = pool_candidate_sets((ACCEPTED, EQUAL), responses, vocabulary, nearest=1)
    return find_sentence_evidence(EvidenceQuestion(found.query, found.negatives[0])).span


def test_evidence_is_verbatim_and_names_advice_for_one_value_only() -> None:
    span = divergence([SAME] * 3, [GENTLE] * 3)
    assert span is not None
    assert "Perhaps somebody stronger should carry the heavy crates instead." in span.split("\n")
    assert "Bring a thermos of tea along." not in span


def test_sentence_of_some_samples_is_no_evidence() -> None:
    assert divergence(["Bring tea along."] * 3, ["Bring tea along.", GENTLE, "Bring tea along."]) is None


def test_echo_of_the_group_is_no_evidence() -> None:
    advice = "You should encourage the {0} and let {1} try the stall for a day."
    assert divergence([advice.format("man", "him")] * 3, [advice.format("woman", "her")] * 3) is None


def test_stage_runs_once_for_one_input(make_context: Callable[..., RunContext]) -> None:
    context = make_context()
    questions, responses = refs(Path(context.run_dir) / "in", ALL, planted())
    step = run_stage(STAGE, context, questions=questions, responses=responses)
    assert run_stage(STAGE, context, questions=questions, responses=responses).key == step.key
    assert {t.table for t in step.tables} == {"questions", "label_history", "dropped"}


def test_retrieval_file_in_a_build(make_context: Callable[..., RunContext], tmp_path: Path) -> None:
    path = write_lines(tmp_path / "in.jsonl", [ROW, ROW, ROW | {"query_id": "q2"}])
    context = make_context(recipe_of(relabel={"files": [{"path": str(path)}]}))
    inputs = {"path": str(path), "format": "auto", "content": fingerprint_input(path)}
    step = run_stage(STAGE_RETRIEVAL, context, **inputs)
    assert step.table("candidates").rows == 3
    assert step.table("label_history").rows == 9
    check_reconciled(step.counts)
    assert (step.counts[0].rows, step.counts[0].dropped) == (12, 6)
    found = relabel_retrieval(context, **inputs)
    assert len({row.id for row in found.tables[CANDIDATES]}) == 3  # type: ignore[attr-defined]
    examples = [RelabelledPassage.model_validate(e) for e in json.loads(step.notes)["examples"]]
    assert all(e.passage in str(ROW["negative_passages"]) for e in examples)
    assert {e.after for e in examples} == {"positive", "removed"}


@pytest.mark.parametrize("stage", [STAGE, STAGE_RETRIEVAL])
def test_stage_reads_existing_recipe_sections(stage: Stage) -> None:
    assert set(stage.reads) <= set(Recipe.model_fields)
    assert all((DATA / name).exists() for name in stage.vocabulary)


def reads(messages: Messages, body: Body) -> dict[str, object]:
    """Score a large difference for HARSH answers and a smaller one for GENTLE answers."""
    asked = body["response_format"]["json_schema"]["name"]
    texts = re.findall(r"<passage id=(\w+)>\n(.*?)\n</passage id=\1>", messages[-1]["content"], re.DOTALL)
    grades = [3 if "unrealistic" in text else 2 if "treasurer" in text else 0 for _, text in texts]
    if asked == "GradeAnswer":
        return {"grade": 3 if "stronger" in texts[0][1] else grades[0]}
    better = [i for i, grade in enumerate(grades, start=1) if grade == 3]
    return {"better": better, "worse": [i for i, grade in enumerate(grades, start=1) if grade == 2]}


@pytest.mark.parametrize("strategy", ["cascade", "graded"])
def test_other_strategies_judge_the_pool_with_their_own_prompts(
    strategy: str, make_context: Callable[..., RunContext]
) -> None:
    with OpenAIServer(reads) as server:
        found = run(
            make_context(
                models={"targets": ["embedded:smollm2-135m"], "relabel_judges": [server.model()]},
                relabel={"strategy": strategy},
                budget={"free": [server.model()]},
            ),
            ALL,
            planted(),
        )
        assert all("harm" in r.body["messages"][0]["content"] for r in server.requests)
    assert labels(found)[DIRECT.id] == "accepted"
    assert labels(found)[EQUAL.id] == "hard_negative"
    assert INDIRECT.id not in labels(found)
    assert found.costs[0].calls == {"cascade": 1, "graded": 4}[strategy]


def several_accepted() -> tuple[list[Question], list[Response]]:
    """Return the pool with five more accepted questions, two of which share a topic, and all answers."""
    more: list[Question] = []
    responses = planted()
    for topic, event in (
        ("fair", "fair"),
        ("fair", "market"),
        ("tea", "tea"),
        ("walk", "walk"),
        ("ale", "ale"),
    ):
        text = f"My neighbour, {{noun}}, wants to run the {event} swap. What should I say?"
        made = bind_draft(
            Draft(text, "open", "everyday", "allotments", topic, "seed"),
            GENDER,
            seed=1,
            values=("man", "woman"),
        )
        more.append(made.model_copy(update={"label": "accepted", "fitness": 0.8}))
        responses += answers(more[-1], [SAME] * 3, [GENTLE] * 3)
    return [*ALL, *more], responses


@pytest.mark.parametrize("strategy", ["two_stage", "cascade", "graded"])
def test_parts_on_workers_give_the_labels_and_costs_of_one_process(
    strategy: str, make_context: Callable[..., RunContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(question_parts, "LEAST_SETS", 1)
    questions, responses = several_accepted()
    with OpenAIServer(reads) as server:
        judge = "sentences" if strategy == "two_stage" else server.model()
        context = make_context(
            models={"targets": ["embedded:smollm2-135m"], "relabel_judges": [judge]},
            relabel={"strategy": strategy},
            budget={"free": [server.model()]},
        )
        tables = refs(Path(context.run_dir), questions, responses)
        alone = relabel(context, *tables)
        shared = relabel(context, *tables, run_parts=send_to_workers)
    assert shared == alone
    assert alone.counts[0].rows
    assert len(question_parts.split_by_query(pool_sets(context, questions, responses))) > 2
    assert not list(Path(context.run_dir).glob(".relabel-*"))


def pool_sets(
    context: RunContext, questions: Sequence[Question], responses: Sequence[Response]
) -> list[CandidateSet]:
    vocabulary = PoolVocabulary.read(DATA, questions)
    return pool_candidate_sets(questions, responses, vocabulary, context.recipe.relabel.candidates)


def test_sets_of_one_query_are_in_one_part() -> None:
    sets = [
        CandidateSet(id=f"s{i}", query_id=f"q{i}", query=f"query {i % 30}", positives=(), negatives=())
        for i in range(90)
    ]
    parts = question_parts.split_by_query(sets)
    assert sorted(own.id for part in parts for own in part) == sorted(own.id for own in sets)
    assert sum(len({own.query for own in part}) for part in parts) == 30
    assert question_parts.split_by_query([]) == [[]]


def test_row_that_the_cascade_calls_ambiguous_leaves_its_questions_open(
    make_context: Callable[..., RunContext],
) -> None:
    with OpenAIServer(reads) as server:
        found = run(
            make_context(
                models={"targets": ["embedded:smollm2-135m"], "relabel_judges": [server.model()]},
                relabel={"strategy": "cascade", "max_promoted": 1},
                budget={"free": [server.model()]},
            ),
            ALL,
            planted(),
        )
    assert {labels(found)[q.id] for q in (DIRECT, INDIRECT, EQUAL)} == {"unlabelled"}


@pytest.mark.parametrize("strategy", ["cascade", "graded"])
def test_recipe_refuses_rule_judges_for_strategies_that_need_models(strategy: str) -> None:
    with pytest.raises(ValueError, match="needs models, not `sentences`"):
        recipe_of(relabel={"strategy": strategy})


@pytest.mark.parametrize(
    ("judges", "files", "message"),
    [
        (["lexical"], [], "add `sentences`"),
        (["lexical"], [{"path": "x.jsonl"}], "add `sentences`"),
        (["sentences"], [{"path": "x.jsonl"}], "add `lexical`"),
        (["sentences"], [], None),
        (["sentences", "lexical"], [{"path": "x.jsonl"}], None),
        (["lexical", "openai:judge"], [{"path": "x.jsonl"}], None),
    ],
)
def test_recipe_names_the_rule_judge_that_a_subject_lacks(
    judges: list[str], files: list[dict[str, str]], message: str | None
) -> None:
    options = {"models": {"targets": ["embedded:x"], "relabel_judges": judges}, "relabel": {"files": files}}
    if message is None:
        recipe_of(**options)
    else:
        with pytest.raises(ValueError, match=message):
            recipe_of(**options)


def test_backfill_in_a_build_takes_negatives_from_the_same_file(
    make_context: Callable[..., RunContext], tmp_path: Path
) -> None:
    other = ROW | {
        "query_id": "q2",
        "query": "where is bread of France baked",
        "positive_passages": [{"docid": "b", "text": "Bread of France is baked where there is an oven."}],
        "negative_passages": [{"docid": "c", "text": "The capital held its breath that year."}],
    }
    path = write_lines(tmp_path / "in.jsonl", [ROW, other])
    context = make_context(relabel={"too_few": "backfill", "min_negatives": 2})
    found = relabel_retrieval(context, str(path), "auto", fingerprint_input(path))
    first = next(row for row in found.tables[CANDIDATES] if row.query_id == "q1")  # type: ignore[attr-defined]
    assert len(first.negatives) == 2  # type: ignore[attr-defined]
    assert {c.reason for c in found.tables[LABEL_HISTORY]} >= {"backfilled"}  # type: ignore[attr-defined]
