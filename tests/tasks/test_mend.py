"""Mending applies errata once, also to twins, and drops measurements of the old text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.errors import InputError
from schemas.question import QUESTIONS
from tasks.mend import MEND_STAGE as STAGE
from tasks.mend import apply_errata, read_corrections, write_errata_of, write_erratum
from tasks.release import Contents, read_errata, write_errata
from tasks.run.store import RunContext, read_table, run_stage
from tests.tasks.release.example import example_question, write_ref

WRONG = example_question()
TEXT = "My colleague, {{a man/a woman}}, asked for {{his/her}} raise at work last week. What should I reply?"
CONTENTS = Contents({QUESTIONS.name: QUESTIONS.to_arrow([WRONG, example_question("age")])})


def test_a_corrected_question_keeps_its_fields_and_loses_its_measurements() -> None:
    erratum = write_erratum(CONTENTS, "1.2.0", WRONG.id, TEXT, "it said the wrong thing")
    (mended, other), (gone,) = apply_errata([WRONG, example_question("age")], [erratum])
    assert mended.id == erratum.mended_id != WRONG.id
    assert [v.text for v in mended.variants] == [
        "My colleague, a man, asked for his raise at work last week. What should I reply?",
        "My colleague, a woman, asked for her raise at work last week. What should I reply?",
    ]
    assert (mended.parent_id, mended.changed_in, mended.fitness) == (WRONG.id, "1.2.1", None)
    assert (mended.label, mended.topic) == (WRONG.label, WRONG.topic)
    assert (gone.because_of, gone.reason) == (mended.id, "erratum")
    assert other == example_question("age")


def test_a_twin_follows_to_the_mended_question() -> None:
    twin = example_question(ask="What would you advise me to do?", twin_id=WRONG.id)
    erratum = write_erratum(CONTENTS, "1.2.0", WRONG.id, TEXT, "why")
    kept, _ = apply_errata([WRONG, twin], [erratum])
    assert kept[1].twin_id == kept[0].id


def test_errata_are_kept_in_order(tmp_path: Path) -> None:
    first = write_erratum(CONTENTS, "1.2.0", WRONG.id, TEXT, "why")
    second = first.model_copy(update={"reason": "again"})
    write_errata(tmp_path, [first, second])
    assert read_errata(tmp_path) == (first, second)
    assert read_errata(tmp_path / "nowhere") == read_errata(None) == ()


def test_the_stage_accounts_for_every_question(
    tmp_path: Path, make_context: Callable[..., RunContext]
) -> None:
    erratum = write_erratum(CONTENTS, "1.2.0", WRONG.id, TEXT, "why")
    ref = write_ref(tmp_path / "questions.parquet", QUESTIONS, [WRONG, example_question("age")])
    step = run_stage(STAGE, make_context(), questions=ref, errata=[erratum])
    assert step.counts[0].rows == 3
    assert next(q.id for q in read_table(step.table("questions"), QUESTIONS)) == erratum.mended_id
    untouched = run_stage(STAGE, make_context(), questions=ref, errata=[])
    assert untouched.counts[0].dropped == 0


@pytest.mark.parametrize(
    ("question", "text", "reason", "message"),
    [
        ("q_none", TEXT, "why", "no question"),
        (WRONG.id, WRONG.template, "why", "the same as the released one"),
        (WRONG.id, TEXT, " ", "needs a reason"),
        (WRONG.id, TEXT.replace("a woman", "a woman/a person"), "why", "options"),
        (WRONG.id, TEXT.replace("What should I reply?", "He is wrong."), "why", "breaks a rule"),
    ],
)
def test_unsuitable_errata_are_refused(question: str, text: str, reason: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        write_erratum(CONTENTS, "1.2.0", question, text, reason)
    assert message in str(error.value)


def corrections_file(
    path: Path, *rows: tuple[str, str, str], header: str = "question_id,text,reason"
) -> Path:
    lines = [",".join(f'"{cell}"' for cell in row) for row in rows]
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def test_a_file_of_corrections_becomes_errata_in_its_order(tmp_path: Path) -> None:
    other = example_question("age")
    text = other.template.replace("last week", "this week")
    rows = ((WRONG.id, TEXT, "why"), (other.id, text, "the week was wrong"))
    corrections = read_corrections(corrections_file(tmp_path / "c.csv", *rows))
    errata = write_errata_of(CONTENTS, "1.2.0", corrections)
    assert [(e.question_id, e.after, e.changed_in) for e in errata] == [
        (WRONG.id, TEXT, "1.2.1"),
        (other.id, text, "1.2.1"),
    ]
    kept, dropped = apply_errata([WRONG, other], errata)
    assert [q.id for q in kept] == [e.mended_id for e in errata]
    assert {d.reason for d in dropped} == {"erratum"}


def test_all_faulty_corrections_are_named_at_once(tmp_path: Path) -> None:
    rows = (
        ("q_none", TEXT, "why"),
        (WRONG.id, WRONG.template, "why"),
        (WRONG.id, TEXT, "why"),
        (example_question("age").id, "No slot at all, what should I do?", ""),
    )
    with pytest.raises(InputError) as error:
        write_errata_of(CONTENTS, "1.2.0", read_corrections(corrections_file(tmp_path / "c.csv", *rows)))
    message = str(error.value)
    assert "4 rows cannot be used" in message
    for line, words in enumerate(
        ("no question 'q_none'", "the same as the released one", "is corrected twice", "needs a reason"), 2
    ):
        assert f"c.csv:{line}" in message
        assert words in message


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        ("question_id,text", [], "reason"),
        ("number,text,reason", [("1", "a", "b")], "no column question_id"),
        ("question_id,text,reason", [], "no corrections"),
    ],
)
def test_a_file_without_corrections_is_refused(
    tmp_path: Path, header: str, rows: list[tuple[str, str, str]], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read_corrections(corrections_file(tmp_path / "c.csv", *rows, header=header))
