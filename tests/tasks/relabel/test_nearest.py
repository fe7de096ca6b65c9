"""The nearest questions equal those of a comparison with the whole pool."""

from types import SimpleNamespace

from tasks.relabel import nearest
from tasks.relabel.nearest import nearest_questions
from tasks.text.similarity import token_set_ratio
from tests.material.similar_texts import framed_texts, vocabulary


def pool_of(texts):
    return [
        SimpleNamespace(id=f"q{i:05}", template=text, attribute="gender" if i % 3 else "age", family="open")
        for i, text in enumerate(texts)
    ]


def by_brute_force(question, pool, count):
    alike = [q for q in pool if q.attribute == question.attribute]
    ranked = sorted(alike, key=lambda q: (-token_set_ratio(question.template, q.template), q.id))
    return [q.id for q in ranked[:count]]


def framed_pool():
    texts, _ = framed_texts(1_500, 0.4, seed=5, words=10, known=vocabulary(150, 5))
    questions = pool_of(texts)
    return questions[:60], questions[60:]


def test_neighbours_are_those_of_brute_force():
    accepted, pool = framed_pool()
    found = nearest_questions(accepted, pool, 5)
    for question in accepted:
        assert [q.id for q in found[question.id]] == by_brute_force(question, pool, 5)


def test_a_shortlist_finds_nearly_all_neighbours_of_brute_force(monkeypatch):
    monkeypatch.setattr(nearest, "EXHAUSTIVE_PAIRS", 0)
    monkeypatch.setattr(nearest, "MIN_SHORTLIST", 200)
    accepted, pool = framed_pool()
    found = nearest_questions(accepted, pool, 5)
    shared = sum(
        len({q.id for q in found[question.id]} & set(by_brute_force(question, pool, 5)))
        for question in accepted
    )
    assert shared / (5 * len(accepted)) >= 0.97


def test_equal_texts_are_sorted_by_id_and_none_is_counted_for_another():
    pool = pool_of(["the same words"] * 9)
    question = SimpleNamespace(id="a", template="the same words", attribute="gender", family="open")
    assert [q.id for q in nearest_questions([question], pool[::-1], 3)["a"]] == ["q00001", "q00002", "q00004"]


def test_question_without_a_pool_has_no_neighbours():
    question = SimpleNamespace(id="a", template="x", attribute="gender", family="open")
    assert nearest_questions([question], [], 3) == {"a": []}
