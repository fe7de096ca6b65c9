"""Word associations: which term is given to which word (LLM-IAT, arXiv 2402.04105)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from schemas.attribute import Attribute
from schemas.effect import Effect
from tasks.families.method import Answered, Figures, Method, Recorded
from tasks.measuring.effects import Slice
from tasks.measuring.recorded_associations import find_test, measure_associations, read_answers


def effects(
    where: Slice, inside: Sequence[Answered], attributes: Mapping[str, Attribute]
) -> list[Effect | None]:
    """None yet."""
    return []


def recorded(answers: Recorded) -> Figures:
    """`d_mean`, `t`, `excluded` of a file in the columns of LLM-IAT."""
    test = find_test(answers.path, answers.data_dir, answers.test)
    return measure_associations(read_answers(answers.path), test)


METHOD = Method("association", "text", effects, recorded={"llm-iat": recorded})
