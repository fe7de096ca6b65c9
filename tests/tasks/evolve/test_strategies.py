"""Every strategy spends the round exactly, reads content only, and follows its rule."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.question import Question
from schemas.recipe import Strategy
from tasks.evolve.jobs import UNOPENED, SearchState
from tasks.evolve.strategies import STRATEGIES, best_by_cell, cell_of, plan_jobs
from tests.tasks.judge.material import make_question

UNITS = [(s, d) for s in ("work", "home", "city") for d in ("one", "two", "three", "four")]


def archived_question(
    number: int, unit: tuple[str, str] = ("work", "one"), fitness: float = 0.1, **more: Any
) -> Question:
    label = more.pop("label", "accepted" if fitness >= 0.5 else "unlabelled")
    return make_question(number, superdomain=unit[0], domain=unit[1], fitness=fitness, label=label, **more)


def search(archive: list[Question], questions: int = 10, **more: Any) -> SearchState:
    fields: dict[str, Any] = {"units": UNITS, "attributes": ["gender", "age"], "seed": 3, **more}
    return SearchState(archive, questions=questions, **fields)


QUESTIONS = st.lists(
    st.builds(
        archived_question,
        st.integers(0, 99),
        st.sampled_from(UNITS),
        st.sampled_from([0.0, 0.1, 0.3, 0.6, 0.9]),
        operator=st.sampled_from([None, "refine", "replace", "new_topic", "explore"]),
        round=st.integers(0, 2),
        attribute=st.sampled_from(["gender", "age"]),
        framing=st.sampled_from(["explicit", "implicit"]),
    ),
    max_size=25,
    unique_by=lambda q: q.id,
)


@pytest.mark.parametrize("strategy", get_args(Strategy))
@settings(max_examples=25, deadline=None)
@given(archive=QUESTIONS, count=st.integers(0, 30), opens=st.booleans(), seed=st.integers(0, 9))
def test_round_has_the_exact_size_for_any_order_of_rows(
    strategy: Strategy, archive: list[Question], count: int, opens: bool, seed: int
) -> None:
    jobs = plan_jobs(strategy, search(archive, count, opens_units=opens))
    shuffled = random.Random(seed).sample(archive, len(archive))
    assert jobs == plan_jobs(strategy, search(shuffled, count, opens_units=opens))
    assert len(jobs) == count
    assert all(job.attribute in ("gender", "age") for job in jobs)
    assert all(job.parent is None or job.attribute == job.parent.attribute for job in jobs)
    assert all(job.unit in UNITS for job in jobs if not job.opens)
    assert len({(job.unit, job.number) for job in jobs}) == count


def test_every_strategy_of_a_recipe_is_there() -> None:
    assert set(STRATEGIES) == set(get_args(Strategy))


@pytest.mark.parametrize("strategy", get_args(Strategy))
def test_only_a_model_opens_domains(strategy: Strategy) -> None:
    archive = [archived_question(i, UNITS[i % 5], i / 20) for i in range(20)]
    assert not any(job.opens for job in plan_jobs(strategy, search(archive, 40)))


class TestQuotas:
    def test_operators_share_a_domain_as_published(self) -> None:
        archive = [archived_question(i, fitness=0.4) for i in range(12)]
        jobs = plan_jobs("quotas", search(archive, 125, units=UNITS[:1], opens_units=True))
        inside = [job.operator for job in jobs if job.unit == UNITS[0]]
        assert len(inside) == 80
        assert Counter(inside) == {"refine": 12, "replace": 12, "new_topic": 56}
        many = [archived_question(i, fitness=0.4) for i in range(99)]
        jobs = plan_jobs("quotas", search(many, 125, units=UNITS[:1], opens_units=True))
        operators = Counter(job.operator for job in jobs if job.unit == UNITS[0])
        assert operators == {"refine": 24, "replace": 16, "new_topic": 40}

    @pytest.mark.parametrize("per_domain", [1, 2, 3])
    def test_operators_share_a_round_as_published_also_if_domains_are_small(self, per_domain: int) -> None:
        units = [(f"s{i}", f"d{j}") for i in range(4) for j in range(5)]
        archive = [
            archived_question(20 * n + i, unit, 0.4, round=r)
            for r in (0, 1)
            for n in range(per_domain * (r + 1))
            for i, unit in enumerate(units)
        ]
        jobs = plan_jobs("quotas", search(archive, 20 * per_domain, units=units))
        known = [job.operator for job in jobs if job.operator != "explore"]
        counted, jobs_in_known = Counter(known), len(known)
        assert jobs_in_known >= 10
        assert abs(counted["refine"] - 0.3 * jobs_in_known) <= 1
        assert abs(counted["replace"] - 0.2 * jobs_in_known) <= 1
        assert abs(counted["new_topic"] - 0.5 * jobs_in_known) <= 1
        parents = [(job.operator, job.parent.id) for job in jobs if job.parent]
        assert len(set(parents)) == len(parents)

    def test_next_best_question_that_is_not_saved_is_refined_once(self) -> None:
        archive = [
            archived_question(1, fitness=0.9),
            archived_question(2, fitness=0.4),
            archived_question(3, fitness=0.3),
        ]
        archive.append(archived_question(4, fitness=0.2, operator="refine", parent_id=archive[1].id, round=1))
        jobs = plan_jobs("quotas", search(archive, 10, units=UNITS[:1]))
        refined = [job.parent for job in jobs if job.operator == "refine"]
        assert refined[0] == archive[2]
        assert archive[0] not in refined
        assert archive[1] not in refined

    def test_unseen_domains_of_the_taxonomy_are_explored_first(self) -> None:
        jobs = plan_jobs("quotas", search([archived_question(1)], 12))
        explored = Counter(job.unit for job in jobs if job.operator == "explore")
        assert UNITS[0] not in explored
        assert set(explored.values()) <= {1, 2}

    def test_unused_quota_of_a_superdomain_opens_new_domains_in_it(self) -> None:
        archive = [archived_question(i, UNITS[0]) for i in range(5)] + [
            archived_question(i, UNITS[4]) for i in range(5, 10)
        ]
        jobs = plan_jobs("quotas", search(archive, 100, opens_units=True))
        opened = Counter(job.unit for job in jobs if job.opens)
        assert opened == {("work", UNOPENED): 8, ("home", UNOPENED): 8, (UNOPENED, UNOPENED): 20}

    def test_domain_that_is_not_known_any_more_becomes_exploration(self) -> None:
        archive = [archived_question(i, ("elsewhere", "gone")) for i in range(4)]
        assert {job.operator for job in plan_jobs("quotas", search(archive, 6))} == {"explore"}

    def test_hand_written_question_is_no_parent_if_parts_are_needed(self) -> None:
        archive = [archived_question(i, fitness=0.4) for i in range(5)]
        jobs = plan_jobs("quotas", search(archive, 20, composed_parents=True))
        assert all(job.parent is None for job in jobs)


class TestMapElites:
    def test_elite_of_a_cell_is_its_fittest_question(self) -> None:
        archive = [
            archived_question(1, fitness=0.2),
            archived_question(2, fitness=0.7),
            archived_question(3, UNITS[1], 0.1),
        ]
        assert set(best_by_cell(archive).values()) == {archive[1], archive[2]}
        assert cell_of(archive[2]) == (UNITS[1], "explicit", "gender")

    def test_half_of_the_round_descends_from_elites_and_half_fills_empty_cells(self) -> None:
        archive = [archived_question(i, UNITS[i % 3], i / 10) for i in range(9)]
        jobs = plan_jobs("map_elites", search(archive, 12))
        parents = [job.parent for job in jobs if job.parent]
        assert set(parents) == {archive[6], archive[7], archive[8]}
        filling = [(job.unit, job.attribute) for job in jobs if not job.parent]
        taken = {(q.superdomain, q.domain) for q in archive}
        assert len(filling) == len(set(filling)) == 6
        assert not any(unit in taken and attribute == "gender" for unit, attribute in filling)

    def test_elites_are_refined_and_replaced_by_largest_remainder(self) -> None:
        archive = [archived_question(i, UNITS[i], 0.2) for i in range(12)]
        operators = Counter(job.operator for job in plan_jobs("map_elites", search(archive, 20)))
        assert operators["refine"] == 6
        assert operators["replace"] == 4

    def test_least_asked_cell_is_filled_if_none_is_empty(self) -> None:
        archive = [archived_question(i, attribute=a) for i, a in enumerate(["gender", "gender", "age"])]
        jobs = plan_jobs("map_elites", search(archive, 2, units=UNITS[:1]))
        (filling,) = [job for job in jobs if job.parent is None]
        assert (filling.attribute, filling.operator) == ("age", "new_topic")

    def test_cell_without_an_implicit_question_is_empty(self) -> None:
        archive = [
            archived_question(1),
            archived_question(2, attribute="age"),
            archived_question(3, attribute="age", framing="implicit"),
        ]
        jobs = plan_jobs(
            "map_elites", search(archive, 1, units=UNITS[:1], named_attributes=["gender", "age"])
        )
        assert jobs[0].attribute == "gender"

    def test_elite_that_is_asked_by_name_is_rewritten_through_its_explicit_twin(self) -> None:
        explicit = archived_question(1, fitness=0.1)
        better = archived_question(2, fitness=0.2)
        implicit = archived_question(3, fitness=0.9, framing="implicit", twin_id=explicit.id)
        jobs = plan_jobs("map_elites", search([explicit, better, implicit], 4))
        assert {job.parent for job in jobs if job.parent} == {explicit, better}

    def test_refined_elite_is_replaced(self) -> None:
        elite = archived_question(1, fitness=0.9)
        child = archived_question(2, fitness=0.1, operator="refine", parent_id=elite.id)
        jobs = plan_jobs("map_elites", search([elite, child], 20))
        assert {job.operator for job in jobs if job.parent == elite} == {"replace"}


class TestThompson:
    @staticmethod
    def history(good: tuple[str, str], operator: str, rows: int = 200) -> list[Question]:
        operators = ("refine", "replace", "new_topic", "explore")
        archive = []
        for i in range(rows):
            unit, how = UNITS[i % len(UNITS)], operators[i // len(UNITS) % 4]
            found = 0.9 if unit == good and how == operator else 0.1
            archive.append(archived_question(i, unit, found, operator=how, round=1))
        return archive

    def test_operator_that_gave_most_is_drawn_most(self) -> None:
        jobs = plan_jobs("thompson", search(self.history(UNITS[6], "new_topic"), 60))
        operators = Counter(job.operator for job in jobs)
        assert operators.most_common(1)[0][0] == "new_topic"

    def test_a_domain_that_gave_much_leaves_room_for_others(self) -> None:
        """The reward counts domains, so the tenth question of a known domain counts a tenth."""
        archive = [
            archived_question(i, UNITS[i % 2], 0.9, operator="new_topic", round=1) for i in range(2, 40, 2)
        ]
        archive += [
            archived_question(i, UNITS[i % 2], 0.9 if i < 4 else 0.1, round=1) for i in range(1, 40, 2)
        ]
        domains = Counter(job.unit for job in plan_jobs("thompson", search(archive, 60)))
        assert domains[UNITS[0]] < 30

    def test_other_arms_are_still_tried(self) -> None:
        jobs = plan_jobs("thompson", search(self.history(UNITS[6], "new_topic"), 200))
        assert len({job.unit for job in jobs}) > 1
        assert len({job.operator for job in jobs}) > 1

    def test_another_seed_draws_otherwise_and_the_same_seed_alike(self) -> None:
        archive = self.history(UNITS[2], "refine")
        plans = [plan_jobs("thompson", search(archive, 30, seed=seed)) for seed in (1, 1, 2)]
        assert plans[0] == plans[1] != plans[2]

    def test_controls_are_no_evidence(self) -> None:
        archive = self.history(UNITS[6], "new_topic")
        controls = [
            archived_question(1000 + i, UNITS[1], 0.9, control="placebo", label="control", operator="explore")
            for i in range(100)
        ]
        assert plan_jobs("thompson", search(archive)) == plan_jobs("thompson", search([*archive, *controls]))

    def test_unseen_domain_is_explored_once_a_round(self) -> None:
        archive = [archived_question(i, UNITS[0], 0.9, operator="explore") for i in range(30)]
        jobs = plan_jobs("thompson", search(archive, 60))
        explored = Counter(job.unit for job in jobs if job.operator == "explore")
        assert explored
        assert set(explored.values()) == {1}
        assert UNITS[0] not in explored


class TestRandom:
    def test_plans_do_not_depend_on_earlier_scores(self) -> None:
        archive = [archived_question(i, UNITS[i % 3], i / 30) for i in range(30)]
        jobs = plan_jobs("random", search(archive, 40))
        assert jobs == plan_jobs("random", search([], 40))
        assert all(job.parent is None for job in jobs)
        assert len({job.unit for job in jobs}) > 8


@pytest.mark.parametrize("strategy", get_args(Strategy))
def test_domain_is_asked_about_attributes_of_its_language_only(strategy: Strategy) -> None:
    by_superdomain = {"work": ["gender"], "home": ["gender"], "city": ["alter"]}
    archive = [archived_question(i, UNITS[i % 7], i / 30) for i in range(20)]
    jobs = plan_jobs(
        strategy,
        search(archive, 40, attributes=["gender", "alter"], attributes_by_superdomain=by_superdomain),
    )
    assert all((job.attribute == "alter") == (job.unit[0] == "city") for job in jobs)
