"""Groups are kept or dropped as one. Siblings of a template, twins and controls are no duplicates."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import InputError
from schemas.labels import check_reconciled
from schemas.question import QUESTIONS, Question
from schemas.vocabulary import Attribute, Value
from tasks.deduplicate import STAGE, drop_duplicates, question_to_unit
from tasks.deduplicate.file import deduplicate_file
from tasks.questions.binding import Draft, bind_draft, link_twins
from tasks.run.store import TableRef, read_table, run_stage, write_table
from tests.conftest import recipe_of
from tests.material.good_release import write_release
from tests.material.good_tables import good_tables
from tests.material.similar_texts import families, similar_texts

TEXT = "{noun} next door asks me to lend {object} the ladder for the weekend. Should I agree, and how?"
REWORDED = TEXT.replace("for the weekend", "over the weekend")


def attribute(name: str, *nouns: str) -> Attribute:
    values = tuple(
        Value(id=f"v{i}", title=noun, forms={"noun": (noun,), "name": (f"{noun} Smith", f"{noun} Jones")})
        for i, noun in enumerate(nouns)
    )
    return Attribute(id=name, title="", description="", source="", licence="", values=values)


GENDER = attribute("gender", "a man", "a woman")
AGE = attribute("age", "a young person", "an old person")


def question(text: str = TEXT, of: Attribute = GENDER, **changes: object) -> Question:
    draft = Draft(text, "open", "neighbourhood", "things", "ladder", "seed")
    keep = {"control", "values"} & set(changes)
    made = bind_draft(draft, of, seed=1, **{name: changes.pop(name) for name in keep})
    return made.model_copy(update=changes)


def dropped_from(*questions: Question, **options: object) -> dict[str, tuple[str | None, str]]:
    kept, dropped, _ = drop_duplicates(questions, threshold=90, **options)
    assert len(kept) + len(dropped) == len(questions)
    return {json.loads(d.record)["id"]: (d.because_of, d.reason) for d in dropped}


def test_the_question_with_the_greatest_effect_stays():
    weak, strong = question(TEXT, fitness=0.9), question(REWORDED, holdout_effect=0.4, fitness=0.1)
    assert dropped_from(weak, strong) == {weak.id: (strong.id, "near_duplicate")}


def test_oldest_of_equal_questions_is_kept_in_any_order():
    first, second = question(TEXT, round=2), question(REWORDED, round=1)
    assert dropped_from(first, second) == dropped_from(second, first)
    assert list(dropped_from(first, second)) == [first.id]


def test_a_template_filled_for_another_attribute_is_no_duplicate():
    assert not dropped_from(question(of=GENDER), question(of=AGE))


def test_slots_that_hold_other_words_are_no_duplicates():
    assert not dropped_from(
        question("{{A man/A woman}} asks to borrow my ladder for the weekend."),
        question("{{A boy/A girl}} asks to borrow my ladder for the weekend."),
    )


def test_controls_are_not_duplicates_of_their_questions():
    control = question(of=GENDER, values=("v0", "v0"), control="a_a")
    assert not dropped_from(question(), control, question(control="placebo"), question(control="neutral"))


def test_twins_never_merge_and_a_twin_stays_when_only_the_other_is_a_duplicate():
    best = question(TEXT, fitness=1.0)
    explicit, implicit = link_twins(
        question(REWORDED, fitness=0.5),
        question(REWORDED.replace("{noun} next door", "{name}"), framing="implicit", fitness=0.5),
    )
    kept, dropped, _ = drop_duplicates([best, explicit, implicit], threshold=90)
    assert [q.id for q in kept] == [best.id, implicit.id]
    assert kept[1].twin_id is None
    assert [(d.because_of, d.reason) for d in dropped] == [(best.id, "near_duplicate_twin_kept")]
    assert json.loads(dropped[0].record)["twin_id"] == implicit.id
    assert not dropped_from(*link_twins(question(TEXT), question(TEXT, framing="implicit", id="q_twin")))


def test_a_question_of_an_earlier_release_is_dropped():
    earlier = [question_to_unit(question(TEXT), "first@1.0.0")]
    again = question(REWORDED, fitness=1.0)
    assert dropped_from(again, question(of=AGE), released=earlier) == {
        again.id: (question(TEXT).id, "overlaps:first@1.0.0")
    }


def write(path, rows):
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def run(path, **options):
    result = deduplicate_file(path, out=path.parent / "out", **{"text": "text", **options})
    kept = pq.read_table(path.parent / "out" / "kept.parquet")
    dropped = pq.read_table(path.parent / "out" / "dropped.parquet")
    assert result["rows"] == result["kept"] + result["dropped"] == kept.num_rows + dropped.num_rows
    return result, kept.to_pylist(), dropped.to_pylist()


LADDER = "My neighbour asks whether she may borrow the ladder on Saturday."


def test_the_stage_reads_releases_and_files_to_stay_clear_of(tmp_path, make_context):
    questions = [question(TEXT), question(of=AGE), question("{noun} asks me for the time in the street.")]
    questions.sort(key=lambda q: q.id)
    path = tmp_path / "questions.parquet"
    write_table(path, QUESTIONS, questions)
    other = write(tmp_path / "other.parquet", [{"text": question(of=AGE).variants[1].text + " Thanks!"}])
    context = make_context(recipe_of(deduplicate={"against": [str(other)]}))
    ref = TableRef(table="questions", path=str(path), rows=3, sha256="0" * 64)
    step = run_stage(STAGE, context, questions=ref)
    check_reconciled(step.counts)
    assert question(of=AGE).id not in {q.id for q in read_table(step.table("questions"), QUESTIONS)}
    assert step.table("questions").rows == 2
    assert step.table("dropped").rows == 1


def test_a_release_against_itself_leaves_nothing(tmp_path, make_context):
    tables, knowledge = good_tables()
    write_release(tmp_path / "release", tables, knowledge)
    path = tmp_path / "questions.parquet"
    write_table(path, QUESTIONS, tables["questions"])
    ref = TableRef(table="questions", path=str(path), rows=len(tables["questions"]), sha256="0" * 64)
    context = make_context(recipe_of(deduplicate={"against": [str(tmp_path / "release")]}))
    step = run_stage(STAGE, context, questions=ref)
    assert step.table("questions").rows == 0


def test_the_row_of_highest_rank_stays_with_all_its_columns(tmp_path):
    path = write(
        tmp_path / "in.parquet",
        [
            {"id": "a", "text": LADDER, "score": 1.0, "more": [1]},
            {"id": "b", "text": LADDER + "!", "score": 3.0, "more": [2]},
            {"id": "c", "text": LADDER.upper(), "score": None, "more": None},
        ],
    )
    result, kept, dropped = run(path, rank="score")
    assert [row["id"] for row in kept] == ["b"]
    assert [(row["id"], row["because_of"], row["reason"], row["more"]) for row in dropped] == [
        ("a", "b", "near_duplicate", [1]),
        ("c", "b", "near_duplicate", None),
    ]
    assert all(row["similarity"] >= 90 for row in dropped)
    assert (result["clusters"], result["pairs_verified"]) == (1, 1)


def test_rows_of_a_group_go_together_and_never_collapse_into_each_other(tmp_path):
    groups = [("g1", LADDER), ("g2", LADDER + "!"), ("g3", "A colleague asks me to swap shifts.")]
    rows = [
        {"group": g, "who": who, "text": text.replace("neighbour", who)}
        for g, text in groups
        for who in ("uncle", "aunt")
    ]
    _, kept, dropped = run(write(tmp_path / "in.parquet", rows), group="group", slots=["who"])
    assert [row["group"] for row in kept] == ["g1", "g1", "g3", "g3"]
    assert [(row["group"], row["because_of"]) for row in dropped] == [("g2", "g1")] * 2


def test_no_merges_across_slots(tmp_path):
    texts, slots = families(50, 20)
    path = write(tmp_path / "in.parquet", [{"text": t, "slot": s} for t, s in zip(texts, slots, strict=True)])
    assert run(path)[0]["kept"] < 150
    assert run(path, slots=["slot"])[0]["dropped"] == 0


def test_rows_without_text_are_kept_apart_with_a_reason(tmp_path):
    texts = [("a", None), ("b", "  "), ("c", LADDER), ("d", None), ("d", LADDER)]
    path = write(tmp_path / "in.parquet", [{"g": g, "text": text} for g, text in texts])
    result, kept, dropped = run(path, group="g")
    assert kept == [{"g": "c", "text": LADDER}]
    assert {row["reason"] for row in dropped} == {"no_text"}
    assert result["reasons"] == {"no_text": 4}


def test_rows_of_an_earlier_file_are_dropped(tmp_path):
    path = write(tmp_path / "in.parquet", [{"text": LADDER, "id": 7}, {"text": "Trains are late.", "id": 8}])
    old = tmp_path / "old.jsonl"
    old.write_text(json.dumps({"text": LADDER + " Please.", "id": 1}))
    _, kept, dropped = run(path, against=[old])
    assert [row["id"] for row in kept] == [8]
    assert [(row["because_of"], row["reason"]) for row in dropped] == [("1", "overlaps:old.jsonl")]


@settings(max_examples=8, deadline=None)
@given(st.randoms())
def test_kept_rows_do_not_depend_on_the_order(tmp_path_factory, rng):
    folder = tmp_path_factory.mktemp("order")
    rows = [{"text": t, "n": i % 3} for i, t in enumerate(similar_texts(60, seed=3, edited=0.5)[0])]
    rows += rows[:5]
    expected = run(write(folder / "in.parquet", rows))[1]
    rng.shuffle(rows)
    found = run(write(folder / "in.parquet", rows))[1]
    assert sorted(map(str, found)) == sorted(map(str, expected))


def test_the_same_input_gives_the_same_bytes(tmp_path):
    rows = [{"text": text} for text in similar_texts(500, seed=4)[0]]
    path = write(tmp_path / "in.parquet", rows)
    run(path)
    first = [(tmp_path / "out" / n).read_bytes() for n in ("kept.parquet", "dropped.parquet")]
    run(path)
    assert first == [(tmp_path / "out" / n).read_bytes() for n in ("kept.parquet", "dropped.parquet")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text": "body"}, "has no column 'body'"),
        ({"slots": ["who"]}, "has no column 'who'"),
        ({"group": "g"}, "has no column 'g'"),
        ({"rank": "word"}, "does not hold numbers"),
        ({"text": "list"}, "not text"),
        ({"against": ["absent"]}, "is neither a release nor a file"),
    ],
)
def test_unusable_rows_are_named(tmp_path, options, message):
    path = write(tmp_path / "in.parquet", [{"text": LADDER, "word": "high", "list": [1]}])
    if "against" in options:
        options = {"against": [tmp_path / "absent"]}
    with pytest.raises(InputError, match=message):
        run(path, **options)


def test_a_column_that_the_output_needs_is_not_overwritten(tmp_path):
    path = write(tmp_path / "in.parquet", [{"text": LADDER, "reason": "mine"}])
    with pytest.raises(InputError, match="'reason'"):
        run(path)
