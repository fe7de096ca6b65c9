"""Mending: errata are applied once, twins follow, and nothing measured of the old text stays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.errors import InputError
from schemas.question import QUESTIONS
from tasks.mend import MEND_STAGE as STAGE
from tasks.mend import apply_errata, write_erratum
from tasks.release import Contents, read_errata, write_errata
from tasks.run.store import RunContext, read_table, run_stage
from tests.tasks.release.example import a_question, write_ref

WRONG = a_question()
TEXT = "My colleague, {{a man/a woman}}, asked for {{his/her}} raise at work last week. What should I reply?"
CONTENTS = Contents({QUESTIONS.name: QUESTIONS.to_arrow([WRONG, a_question("age")])})


def test_a_mended_question_keeps_what_it_is_and_loses_what_was_measured() -> None:
    erratum = write_erratum(CONTENTS, "1.2.0", WRONG.id, TEXT, "it said the wrong thing")
    (mended, other), (gone,) = apply_errata([WRONG, a_question("age")], [erratum])
    assert mended.id == erratum.mended_id != WRONG.id
    assert [v.text for v in mended.variants] == [
        "My colleague, a man, asked for his raise at work last week. What should I reply?",
        "My colleague, a woman, asked for her raise at work last week. What should I reply?",
    ]
    assert (mended.parent_id, mended.changed_in, mended.fitness) == (WRONG.id, "1.2.1", None)
    assert (mended.label, mended.topic) == (WRONG.label, WRONG.topic)
    assert (gone.because_of, gone.reason) == (mended.id, "erratum")
    assert other == a_question("age")


def test_a_twin_follows_to_the_mended_question() -> None:
    twin = a_question(ask="What would you advise me to do?", twin_id=WRONG.id)
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
    ref = write_ref(tmp_path / "questions.parquet", QUESTIONS, [WRONG, a_question("age")])
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
def test_what_cannot_be_mended_is_refused(question: str, text: str, reason: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        write_erratum(CONTENTS, "1.2.0", question, text, reason)
    assert message in str(error.value)
