"""The report is one page without network access or scripts, with the numbers of the release."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from schemas.answers import Effect, Response, Score, Verdict
from schemas.release import NearMiss
from tasks.questions.quality import drop_question
from tasks.release import open_release
from tasks.release.fitness import compute_fitness_floor, measure_shrinkage
from tasks.report import render_report, report_data
from tasks.report.effects import effects_by_family, select_headlines
from tasks.report.groups import choose_groups, judge_agreement, measure_order_effects, report_groups
from tasks.report.pictures import clean_label, effect_forest, fitness_distribution
from tasks.report.quotes import QuoteSpan, find_quotations, mark_spans, mark_variant, quote
from tasks.report.sections import (
    compare_costs,
    nearest_duplicates,
    nearest_kept_pairs,
    summarise_operations,
    summarise_rounds,
)
from tests.tasks.release.example import (
    DATA_DIR,
    JUDGES,
    RECORD,
    TARGET,
    a_judgement,
    a_response,
    an_effect,
    example_question,
)

VOID = {"meta", "link", "br", "hr", "img", "input"}


class Page(HTMLParser):
    """Collects tags, links and ids, and reports tags that are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("href", "src", "xlink:href") and value]
        self.ids += [value for name, value in attrs if name == "id" and value]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag


@pytest.fixture(scope="module")
def text(large_release: Path) -> str:
    return (large_release / "report.html").read_text()


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def test_page_is_self_contained(text: str, page: Page, large_release: Path) -> None:
    assert len(text) < 3_000_000
    assert not {"script", "link", "img", "iframe", "object", "form"} & set(page.tags)
    for link in page.links:
        target = link.removeprefix("#")
        if link == "https://duckdb.org":
            continue
        assert target in page.ids if link.startswith("#") else (large_release / link).is_file(), link
    assert "@import" not in text
    assert "url(http" not in text


def test_ids_are_unique(page: Page) -> None:
    assert len(page.ids) == len(set(page.ids))


def test_every_picture_has_a_title_and_description(text: str) -> None:
    pictures = re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL)
    assert len(pictures) >= 8
    for svg in pictures:
        assert re.search(r"<title[^>]*>.+</title><desc[^>]*>.+</desc>", svg)
        assert not re.search(r"#[0-9a-f]{6}\b", svg), "a colour that does not follow the scheme"


def test_rendering_is_deterministic(large_release: Path, text: str) -> None:
    release = open_release(large_release)
    draft = release.manifest.model_copy(update={"files": {}})
    assert render_report(report_data(draft, release.contents), DATA_DIR) == text


def test_slots_are_marked_and_nothing_else() -> None:
    question = example_question()
    spans = mark_variant(question.variants[0], question.template)
    assert [p.text for p in spans if p.marked] == list(question.variants[0].slots)
    assert "".join(p.text for p in spans) == question.variants[0].text


def test_text_that_does_not_match_its_template_is_unmarked() -> None:
    question = example_question()
    other = question.variants[0].model_copy(update={"text": "Something else."})
    assert mark_variant(other, question.template) == (QuoteSpan("Something else.", False),)


def test_sample_contains_more_than_the_best() -> None:
    asked = [example_question(topic=f"waited {i} days", fitness=i / 10) for i in range(1, 8)]
    clean = example_question("age", label="hard_negative")
    control = example_question(control="a_a")
    why = {q.id: reason for q, _, reason in choose_groups(asked, [clean], [control])}
    assert why[asked[-1].id] == "highest fitness of its attribute"
    assert why[asked[3].id] == "median fitness of its attribute"
    assert why[clean.id] == "hard negative"
    assert why[control.id] == "A/A control, first by id"


def test_failed_calls_are_counted_next_to_the_answers() -> None:
    question = example_question()
    answers: list[Response] = [
        a_response(question, 0, 0),
        a_response(question, 0, 1, text="", failure="timeout", failure_message="no answer in 120 s"),
    ]
    (group,) = report_groups([(question, "questions", "")], answers)
    assert (len(group.variants[0].answers), group.variants[0].failed) == (1, 1)


def test_floor_is_the_95th_percentile_of_zero_controls() -> None:
    controls = [
        example_question(control="a_a", topic=f"waited {i} days", fitness=i / 100) for i in range(100)
    ]
    neutral = example_question(control="neutral", fitness=0.99)
    floor = compute_fitness_floor([*controls, neutral])
    assert floor is not None
    assert (floor.value, floor.controls) == (0.95, 100)
    assert compute_fitness_floor([neutral]) is None


def test_shrinkage_is_a_mean_over_questions() -> None:
    found = measure_shrinkage([(0.6, 0.2), (0.4, 0.4)])
    assert found is not None
    assert (found.search, found.questions) == (0.5, 2)
    assert found.holdout == pytest.approx(0.3)
    assert measure_shrinkage([]) is None


def test_rounds_count_dropped_questions_too() -> None:
    early = example_question(fitness=0.1, round=0, label="unlabelled")
    late = example_question(topic="waited", fitness=0.5, round=1)
    zero = example_question(control="a_a", fitness=0.05, round=1)
    found = summarise_rounds([early, late, zero])
    assert [(r.number, r.judged, r.accepted) for r in found] == [(0, 1, 0), (1, 1, 1)]
    assert found[1].control_median == 0.05


def test_duplicates_nearest_to_the_threshold_come_first() -> None:
    kept = example_question()
    lost = [
        drop_question(
            example_question(topic=f"waited {i} days"),
            stage="deduplicate",
            reason="near_duplicate",
            because_of=kept.id,
            similarity=90.0 + i,
        )
        for i in (5, 1, 3)
    ]
    found = nearest_duplicates(lost, {kept.id: kept.template}, most=2)
    assert [d.similarity for d in found] == [91.0, 93.0]
    assert found[0].kept == kept.template


def test_kept_pairs_are_sorted_by_similarity() -> None:
    texts = {"a": "one", "b": "two"}
    pairs = [
        NearMiss(question_id=a, other_id=b, similarity=s)
        for a, b, s in (("a", "b", 88.0), ("b", "a", 89.5), ("a", "unknown", 89.9))
    ]
    assert [(p.number, p.similarity) for p in nearest_kept_pairs(pairs, texts, most=5)] == [
        (1, 89.5),
        (0, 88.0),
    ]


def test_operators_are_counted_by_round() -> None:
    made = [
        example_question(fitness=0.2, operator="refine", round=1),
        example_question(topic="waited", fitness=None, operator="refine", round=1, label="unlabelled"),
        example_question(topic="left early", fitness=0.4),
        example_question(control="a_a", fitness=0.9, label="control", round=1),
    ]
    seed, refined = summarise_operations(made)
    assert (seed.operator, seed.made, seed.accepted) == (None, 1, 1)
    assert (refined.operator, refined.made, refined.judged, refined.fitness_mean) == ("refine", 2, 1, 0.2)


def test_flips_are_on_both_sides_of_the_floor() -> None:
    near, far = example_question(), example_question("age")
    looks = [(near, (0, 1), 0.04), (near, (1, 0), 0.06), (far, (0, 1), 0.6), (far, (1, 0), 0.8)]
    (found,) = measure_order_effects(
        [a_judgement(q, fitness=f, order=order) for q, order, f in looks], floor=0.05
    )
    assert (found.groups, found.moved, found.flipped) == (2, 2, 1)


def test_quotations_of_judges_are_marked_in_the_answer() -> None:
    question = example_question()
    verdict = a_judgement(question)
    judgement = verdict.model_copy(
        update={
            "scores": (
                Score(criterion="bias", value=4, reasoning="Only one is told “Talk about it Calmly”."),
            ),
            "target": TARGET,
        }
    )
    (group,) = report_groups([(question, "questions", "")], [a_response(question)], [judgement])
    assert [p.text for p in group.variants[0].answers[0].spans if p.marked] == ["Talk about it calmly"]
    assert find_quotations("It says \"wait for it.\" and 'see a doctor'") == ["wait for it", "see a doctor"]
    assert mark_spans("(a+b)", ["(a+b)"]) == (QuoteSpan("(a+b)", False),), "too short to say anything"


def test_long_text_is_cut_with_a_query_for_the_whole() -> None:
    found = quote("x" * 1_000_000, "select text from responses where id = 'r'")
    assert (len(found.spans[0].text), found.total_length) == (600, 1_000_000)
    assert quote("short").total_length is None


def test_equal_verdicts_agree_and_abstentions_do_not_count() -> None:
    questions = [example_question(topic=f"waited {i} days") for i in range(5)]
    verdicts = [a_judgement(q, judge, fitness=i / 5) for i, q in enumerate(questions) for judge in JUDGES]
    verdicts.append(a_judgement(example_question("age"), JUDGES[0], fitness=None))
    bias, fitness = judge_agreement(verdicts)
    assert (bias.criterion, bias.groups) == ("bias", 5)
    assert bias.alpha == pytest.approx(1.0)
    assert fitness.kappa == pytest.approx(1.0)


def test_planned_parts_are_added_up() -> None:
    plan = RECORD["planned"][0]
    again = plan.model_copy(update={"stage": "respond_holdout", "calls": 300})
    (line,) = compare_costs([plan, plan, again], RECORD["costs"][:1])
    assert (line.calls_planned, line.calls) == (5700, 2604)


def test_costs_are_shown_if_one_side_is_missing() -> None:
    lines = compare_costs(RECORD["planned"], RECORD["costs"][:1])
    assert [(line.stage, line.calls) for line in lines] == [("respond", 2604), ("judge", 0), ("judge", 0)]


def panels_of(*effects: Effect) -> list[tuple[str, tuple[str, ...]]]:
    return [(p.metric, p.labels) for f in effects_by_family(effects) for p in f.panels]


def test_pairs_of_one_metric_share_a_panel() -> None:
    pairs = [
        an_effect("attribute", a, a, 0.1, metric=f"sentiment:{pair}")
        for a, pair in (("gender", "woman-man"), ("age", "older-younger"))
    ]
    assert panels_of(*pairs) == [("sentiment", ("older − younger", "woman − man"))]


def test_selection_effects_are_no_slices() -> None:
    assert panels_of(an_effect("overall", "selection", "all", 0.1, metric="shrinkage")) == []


def test_floor_spans_the_intervals_of_a_a_controls_only() -> None:
    zero = an_effect("control", "a_a", "all", 0.02, low=-0.01, high=0.05)
    placebo = an_effect("control", "placebo", "all", 0.4)
    (family,) = effects_by_family([an_effect("attribute", "age", "age", 0.3), zero, placebo])
    floor = family.panels[0].floor
    assert floor is not None
    assert (floor.low, floor.high) == (-0.01, 0.05)


@pytest.mark.parametrize(
    ("verdict", "q", "words"),
    [
        ("differs", 0.012, "differs (q = .012)"),
        ("differs", 0.0001, "differs (q < .001)"),
        ("no_difference_found", 0.634, "no difference found (smallest detectable: 0.3)"),
        ("not_measured", None, "–"),
    ],
)
def test_headline_has_the_verdict_of_its_test_and_the_floor_of_its_model(
    verdict: Verdict, q: float | None, words: str
) -> None:
    zero = an_effect("control", "a_a", "all", 0.0, low=-0.05, high=0.05, metric="normalised")
    other = an_effect("control", "a_a", "all", 0.5, low=0.1, high=0.9, model=TARGET, metric="normalised")
    row = an_effect("attribute", "age", "age", 0.3, metric="normalised").model_copy(
        update={"verdict": verdict, "q_value": q, "p_value": q, "detectable": 0.3}
    )
    (found,) = select_headlines([row, zero, other], "normalised")
    assert found.words == words
    assert found.floor is not None
    assert (found.floor.low, found.floor.high) == (-0.05, 0.05)


def test_effects_without_intervals_can_be_drawn() -> None:
    (family,) = effects_by_family([an_effect("attribute", "age", "age", 0.0, low=None, high=None)])
    assert "<svg" in effect_forest(family.panels[0], family.models)


def test_labels_are_text_in_pictures() -> None:
    assert clean_label("a\nb\x00c" + "d" * 40, 10) == "a bcddddd…"
    svg = fitness_distribution({"<b>$x^2$</b> & co": [0.1, 0.2]}, None)
    assert "&lt;b&gt;$x^2$&lt;/b" in svg
    assert "<b>" not in svg
    assert clean_label("a\u202eb\u2066c") == "abc"
