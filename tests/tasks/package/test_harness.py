"""The files in evals/ are independent: they read the release beside them or its tag, and measure in pairs."""

from __future__ import annotations

import ast
import importlib.util
import math
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.question import Question
from schemas.recipe import FAMILIES
from tasks.expand import expand_family
from tasks.families import Ask, method_of, read_asking_prompts
from tasks.package.harness import read_kinds
from tasks.release import config_file, open_release
from tests.conftest import DATA, recipe_of
from tests.release_fixtures import package_build
from tests.servers.hub_server import HubServer
from tests.tasks.publish.publishing import REPO, publish_to, short_wait_client
from tests.tasks.release.example import Build, a_context, a_response, example_question, small_build

NUMBERS = count()
GROUPS = st.lists(st.lists(st.integers(0, 3), min_size=2, max_size=4), min_size=2, max_size=4)


def load(evals: Path) -> Any:
    """Load paired.py of a release by its path, as a harness does."""
    spec = importlib.util.spec_from_file_location(f"paired_{next(NUMBERS)}", evals / "paired.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def paired(small_release: Path) -> Any:
    return load(small_release / "evals")


@pytest.fixture(scope="module")
def decision(paired: Any) -> dict[str, Any]:
    (found,) = paired.questions_of("decision")
    return dict(found)


def test_release_has_the_tasks_of_its_families(small_release: Path) -> None:
    assert {p.name for p in (small_release / "evals").glob("*.*")} == {
        "counterfoil_inspect.py",
        "eval.yaml",
        "lm_eval_decision.yaml",
        "lm_eval_decision_likelihood.yaml",
        "paired.py",
        "reader.py",
    }
    about = yaml.safe_load((small_release / "evals" / "eval.yaml").read_text())
    assert (about["name"], about["tag"], about["repo"]) == (
        "everyday-advice",
        "v0.1.0",
        "example/everyday-advice",
    )
    assert about["families"]["open"]["rows"] == {"a_a": 1, "none": 1}
    assert about["families"]["decision"]["rows"] == {"none": 1}


def test_python_of_a_release_is_ours_to_the_byte(small_release: Path) -> None:
    for name in ("counterfoil_inspect.py", "paired.py"):
        assert (small_release / "evals" / name).read_bytes() == (DATA / "evals" / name).read_bytes()


def test_foreign_text_stays_data(tmp_path: Path) -> None:
    evil = (
        "\"'''\n__import__('os').system('touch pwned') !!python/object/apply:os.system [] ${version} {{x/y}}"
    )
    question = example_question("religion", topic=evil, domain=evil)
    build = small_build().with_questions(question)
    build = replace(build, responses=(*build.responses, a_response(question, text=evil)))
    release = package_build(tmp_path, build, recipe={"title": evil, "description": evil})
    for path in (release / "evals").iterdir():
        if path.suffix == ".py" or path.name.startswith("lm_eval"):
            assert "pwned" not in path.read_text(), path.name
    found = load(release / "evals").all_questions()[question.id]
    assert found["topic"] == evil


def test_files_need_nothing_of_this_project() -> None:
    for name in ("counterfoil_inspect.py", "paired.py"):
        tree = ast.parse((DATA / "evals" / name).read_text())
        modules = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
        modules |= {alias.name for n in ast.walk(tree) if isinstance(n, ast.Import) for alias in n.names}
        tops = {(m or "").split(".")[0] for m in modules}
        assert tops - sys.stdlib_module_names <= {
            *("datasets", "huggingface_hub", "inspect_ai", "paired", "pyarrow", "yaml")
        }


def test_lm_eval_yaml_names_functions_that_are_there(paired: Any) -> None:
    for path in (DATA / "evals").glob("lm_eval_*.yaml"):
        text = path.read_text()
        for name in re.findall(r"!function paired\.(\w+)", text):
            assert callable(getattr(paired, name)), f"{path.name}: {name}"
        for name in re.findall(r"^include: (.+)$", text, flags=re.MULTILINE):
            assert (path.parent / name).is_file()


def test_running_them_leaves_a_release_that_is_still_one(tmp_path: Path) -> None:
    release = package_build(tmp_path, small_build())
    subprocess.run([sys.executable, "-c", "import paired"], cwd=release / "evals", check=True)
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(release / "evals")], check=True)
    assert (release / "evals" / "__pycache__").is_dir()
    open_release(release)


def test_release_of_one_family_has_its_tasks_only(tmp_path: Path) -> None:
    build = small_build()
    odd = example_question("age", family="relative_decision", label="unlabelled", topic="asked for a day off")
    build = replace(
        build.with_questions(odd),
        standing=(odd,),
        responses=(a_response(odd),),
        dropped=(),
        generated=(odd,),
        judgements=(),
        history=(),
    )
    release = package_build(tmp_path, build)
    assert {p.name for p in (release / "evals").glob("*.*")} == {
        *("counterfoil_inspect.py", "eval.yaml", "paired.py", "reader.py"),
        "lm_eval_relative_decision.yaml",
    }
    assert "--tasks everyday-advice_relative_decision " in (release / "README.md").read_text()


def test_card_has_the_commands(small_release: Path) -> None:
    card = (small_release / "README.md").read_text()
    assert "inspect eval evals/counterfoil_inspect.py@advice --model $MODEL" in card
    assert "--tasks everyday-advice_decision " in card


# ---- sources of the tables


def test_tables_beside_the_files_are_read_first(paired: Any, small_release: Path) -> None:
    assert paired.table_file("questions") == small_release / config_file("questions")


def test_files_alone_read_the_tag_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = package_build(tmp_path, small_build(), recipe={"release": {"repo": REPO}})
    alone = tmp_path / "alone" / "evals"
    shutil.copytree(release / "evals", alone)
    with HubServer(tmp_path / "hub") as hub, short_wait_client():
        publish_to(hub, release)
        environment = {
            **os.environ,
            "HF_ENDPOINT": hub.url,
            "HF_TOKEN": hub.token,
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HOME": str(tmp_path / "cache"),
        }
        asked = len(hub.requests)
        done = subprocess.run(
            [sys.executable, "-c", "import paired; print(len(paired.all_questions()))"],
            cwd=alone,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        routes = [r.path for r in hub.requests[asked:]]
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == 3
    assert any("/v0.1.0/" in path for path in routes)


def test_files_alone_of_an_unpublished_release_say_so(tmp_path: Path) -> None:
    release = package_build(tmp_path, small_build(), recipe={"release": {}})
    shutil.copytree(release / "evals", tmp_path / "alone" / "evals")
    with pytest.raises(FileNotFoundError, match="names no place on the Hub"):
        load(tmp_path / "alone" / "evals").all_questions()


# ---- asking and reading


def test_prompts_are_those_of_the_build(paired: Any, decision: dict[str, Any]) -> None:
    system, user = paired.prompt_of(decision, 1, [0, 1])
    assert "one word, yes or no" in system
    assert decision["variants"][1]["text"] in user
    (advice, _) = paired.questions_of("open")
    assert paired.prompt_of(advice, 0, []) == ("", advice["variants"][0]["text"])


def test_a_persona_is_given_by_its_instruction_as_in_the_build(tmp_path: Path) -> None:
    families = {"persona": {"attributes": ["persona"], "questions": 1}}
    context = a_context(tmp_path, families=families, attributes=["persona"])
    made = expand_family(context.recipe, DATA, "persona")
    rows = tuple(q.model_copy(update={"label": "accepted"}) for q in made if q.control == "none")
    release = package_build(tmp_path / "made", Build(rows, rows, (), (), (), (), ()))
    paired = load(release / "evals")
    (released,) = paired.questions_of("persona")
    prompts = read_asking_prompts(DATA, ["persona"])
    order = tuple(range(len(rows[0].options)))
    make = method_of("persona").messages
    assert make is not None
    for variant in range(len(rows[0].variants)):
        built = make(Ask(rows[0], variant, 0, "search", order, "adopt", "letter"), prompts)
        assert [m.content for m in built] == list(filter(None, paired.prompt_of(released, variant, order)))


def test_every_option_is_shown_first_once(paired: Any, decision: dict[str, Any]) -> None:
    assert paired.orders_of(decision) == [[0, 1], [1, 0]]
    (advice, _) = paired.questions_of("open")
    assert paired.orders_of(advice) == [[]]


@pytest.mark.parametrize(
    ("answer", "choice"),
    [
        ("Yes.", 0),
        ("no", 1),
        ("**No**, because", 1),
        ("I would say yes", 0),
        ("yes and no", None),
        ("Either yes or no", None),
        ("There is no reason to refuse.", None),
        ("<think>yes</think>no", 1),
        ("", None),
    ],
)
def test_words_are_read(paired: Any, decision: dict[str, Any], answer: str, choice: int | None) -> None:
    assert paired.read_choice(decision, [0, 1], answer) == choice


@pytest.mark.parametrize(
    ("answer", "choice"),
    [("B", 0), ("b. kind", 0), ("The answer is A", 2), ("(C)", 1), ("D", None), ("kind", 0), ("Hm", None)],
)
def test_letters_are_read_in_the_order_shown(
    paired: Any, monkeypatch: pytest.MonkeyPatch, answer: str, choice: int | None
) -> None:
    monkeypatch.setitem(paired.ABOUT["families"], "completion", {"form": "letter"})
    options = [{"text": t, "role": "", "valence": 0} for t in ("kind", "cold", "tall")]
    question = {"family": "completion", "options": options}
    assert paired.read_choice(question, [2, 0, 1], answer) == choice


def test_words_that_name_the_person_do_not_count(paired: Any) -> None:
    (advice, _) = paired.questions_of("open")
    assert paired.words_of(advice, "Tell her husband's boss, madam.") == ["tell", "boss"]


# ---- measuring


@settings(deadline=None)
@given(GROUPS)
def test_excess_does_not_depend_on_the_order_of_anything(paired: Any, groups: list[list[int]]) -> None:
    turned = [list(reversed(g)) for g in reversed(groups)]
    assert paired.excess(groups, paired.choice_distance) == pytest.approx(
        paired.excess(turned, paired.choice_distance)
    )


def test_excess_is_zero_on_average_without_a_difference(paired: Any) -> None:
    draw = Random(5)
    found = [
        paired.excess([[draw.randrange(2) for _ in range(3)] for _ in range(3)], paired.choice_distance)
        for _ in range(4000)
    ]
    assert abs(sum(found) / len(found)) < 0.01


def test_one_answer_per_variant_gives_no_noise_estimate(paired: Any) -> None:
    assert math.isnan(paired.excess([[0], [1]], paired.choice_distance))


def test_gap_and_congruence_by_hand(paired: Any, decision: dict[str, Any]) -> None:
    assert paired.favourable_gap(decision, [[1.0, 0.0], [0.25, 0.75]]) == 0.75
    assert math.isnan(paired.favourable_gap(decision, [[1.0, 0.0], []]))
    blank = {
        "variants": [{"valence": 1}, {"valence": -1}],
        "options": [{"valence": 1}, {"valence": -1}, {"valence": 0}],
    }
    assert paired.congruence(blank, [[1, 0, 0], [0, 1, 0]]) == 1
    assert paired.congruence(blank, [[1, 0, 0], [1, 0, 0]]) == 0
    assert paired.congruence(blank, [[0, 1, 0], [0, 0, 1]]) == -0.5


def test_standard_error_is_that_of_clusters(paired: Any) -> None:
    values = [0.0, 0.0, 1.0, 1.0]
    mean, apart = paired.mean_with_error(values, ["a", "b", "c", "d"])
    _, together = paired.mean_with_error(values, ["a", "a", "b", "b"])
    assert mean == 0.5
    assert apart == pytest.approx(math.sqrt(1 / 12))  # s / √n
    assert together == pytest.approx(0.5)
    assert math.isnan(paired.mean_with_error(values, ["a"] * 4)[1])


def test_documents_of_a_harness_come_back_as_figures(paired: Any, decision: dict[str, Any]) -> None:
    docs = list(paired.decisions()["test"])
    assert len(docs) == len(decision["variants"])  # the prompt does not show the options
    items = [paired.read_decision(d, ["yes" if d["variant"] else "no"])["gap"] for d in docs]
    assert paired.gap(items) == 1.0
    assert math.isnan(paired.gap_floor(items))  # the release has no such control
    assert paired.invalid([*items, (decision["id"], 0, [])]) == pytest.approx(1 / 3)
    assert math.isnan(paired.gap(items[:1]))  # only one variant was asked


def test_likelihoods_count_as_shares_of_the_options_shown(paired: Any, decision: dict[str, Any]) -> None:
    doc = {**paired.decisions()["test"][0], "order": [1, 0]}
    _, _, shares = paired.item_of(doc, [(math.log(0.2), False), (math.log(0.6), True)])
    assert shares == pytest.approx([0.75, 0.25])


@pytest.mark.parametrize("family", sorted(read_kinds(DATA)))
def test_every_listed_family_has_its_tasks_and_its_form(family: str) -> None:
    kind = read_kinds(DATA)[family]
    assert kind["form"] == method_of(family).form
    inspect = ast.parse((DATA / "evals" / "counterfoil_inspect.py").read_text(encoding="utf-8"))
    assert kind["inspect"] in {f.name for f in inspect.body if isinstance(f, ast.FunctionDef)}
    paired = (DATA / "evals" / "paired.py").read_text(encoding="utf-8")
    for name in kind.get("lm_eval", ()):
        text = (DATA / "evals" / name).read_text(encoding="utf-8").replace("$family", family)
        for function in re.findall(r"!function paired\.(\w+)", text):
            assert re.search(rf"^(def {function}\(|{function} = )", paired, re.MULTILINE), function


def test_every_family_has_tasks_in_both_harnesses_if_its_answers_can_be_read() -> None:
    kinds = read_kinds(DATA)
    assert set(kinds) == set(FAMILIES)
    assert all("inspect" in kind for kind in kinds.values())
    without = {family for family, kind in kinds.items() if "lm_eval" not in kind}
    assert without == {"open", "refusal", "autocomplete"}  # greedy texts have no distance within a variant


def test_spread_is_the_distance_between_the_shares_of_options(paired: Any) -> None:
    assert paired.spread({}, [[1.0, 0.0], [0.0, 1.0]]) == 1
    assert paired.spread({}, [[0.5, 0.5], [0.5, 0.5]]) == 0
    assert paired.spread({}, [[1.0, 0.0], [0.5, 0.5], [0.5, 0.5]]) == pytest.approx(1 / 3)
    assert math.isnan(paired.spread({}, [[1.0, 0.0], []]))


# ---- the floor


def control_of(kind: str, question: dict[str, Any], texts: list[str]) -> dict[str, Any]:
    variants = [{**question["variants"][0], "index": i, "text": text} for i, text in enumerate(texts)]
    return {**question, "id": kind + texts[0], "control": kind, "variants": variants}


@pytest.fixture
def six_values(paired: Any, decision: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Serve one question of six values, a placebo of eight, and an A/A control of six copies."""
    six = [f"text {i}" for i in range(6)]
    found = {
        "none": {**control_of("none", decision, six), "id": "q"},
        "placebo": control_of("placebo", decision, [f"number {i}" for i in range(8)]),
        "a_a": control_of("a_a", decision, ["the same"] * 6),
    }
    served = {q["id"]: q for q in found.values()}
    monkeypatch.setattr(paired, "all_questions", lambda: served)
    return found


def yes(share: float) -> list[float]:
    return [share, 1 - share]


def test_identical_texts_are_asked_once(paired: Any, six_values: dict[str, Any]) -> None:
    docs = list(paired.documents("decision")["test"])
    asked = [(d["id"], d["variant"]) for d in docs if d["id"] == six_values["a_a"]["id"]]
    assert asked == [(six_values["a_a"]["id"], 0)]  # the order of the options is not shown
    assert len({(d["prompt"]) for d in docs}) == len(docs)
    items = [(six_values["a_a"]["id"], 0, yes(0.5))]
    ((question, shares),) = paired.shares_by_variant(items)
    assert (question["control"], len(shares)) == ("a_a", 6)


def test_floor_has_as_many_values_as_the_questions(paired: Any, six_values: dict[str, Any]) -> None:
    draw = Random(4)
    gaps, floors = [], []
    for _ in range(400):
        items = [
            (q["id"], v, yes(draw.randrange(5) / 4))
            for kind, q in six_values.items()
            for v in range(1 if kind == "a_a" else len(q["variants"]))
        ]
        gaps.append(paired.gap(items))
        floors.append(paired.gap_floor(items))
    assert sum(gaps) / 400 == pytest.approx(sum(floors) / 400, abs=0.02)
    few = [item for item in items if item[0] != six_values["placebo"]["id"]]
    assert math.isnan(paired.gap_floor(few))  # copies of one text are no floor


def test_too_few_values_in_a_control_are_no_floor(paired: Any, six_values: dict[str, Any]) -> None:
    six_values["placebo"]["variants"] = six_values["placebo"]["variants"][:4]
    items = [(q["id"], v, yes(1.0)) for q in six_values.values() for v in range(len(q["variants"]))]
    assert math.isnan(paired.gap_floor(items))


def test_gap_of_an_unbiased_model_is_that_by_chance(paired: Any, six_values: dict[str, Any]) -> None:
    draw = Random(6)
    question = six_values["none"]
    gaps, chance = [], []
    for _ in range(300):
        chosen = [[draw.randrange(2) for _ in range(4)] for _ in range(6)]
        shares = [paired.shares_of(question, some) for some in chosen]
        gaps.append(paired.favourable_gap(question, shares))
        chance.append(paired.by_chance(question, chosen, paired.favourable_gap))
    assert sum(gaps) / 300 == pytest.approx(sum(chance) / 300, abs=0.04)
    assert sum(gaps) / 300 > 0.5
    biased = [[0] * 4] * 3 + [[1] * 4] * 3
    assert paired.by_chance(question, biased, paired.favourable_gap) < 0.9
    assert math.isnan(paired.by_chance(question, [[], [1]], paired.favourable_gap))


# ---- families with answers of their own


@pytest.fixture(scope="module")
def assigned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, dict[str, list[Question]]]:
    """Package some questions of the families that assign words, tasks or likelihoods."""
    attributes = {"association": "gender", "relative_decision": "gender", "perplexity_pair": "gender"}
    attributes |= {"dialect": "dialect-de"}
    made: dict[str, list[Question]] = {}
    for family, attribute in attributes.items():
        recipe = recipe_of(families={family: {"questions": 3}}, attributes=[attribute])
        rows = [q for q in expand_family(recipe, DATA, family) if q.control == "none"][:4]
        made[family] = [q.model_copy(update={"label": "accepted"}) for q in rows]
    every = tuple(q for rows in made.values() for q in rows)
    release = package_build(
        tmp_path_factory.mktemp("assigned"),
        Build(every, every, (), (), (), (), ()),
        recipe={"attributes": ["gender", "dialect-de"]},
    )
    return load(release / "evals"), made


CONDITIONS = {"dialect": ("named", "shown", "noise")}


@pytest.mark.parametrize("family", ["association", "relative_decision", "dialect"])
def test_words_and_tasks_are_asked_as_in_the_build(
    assigned: tuple[Any, dict[str, list[Question]]], family: str
) -> None:
    paired, made = assigned
    prompts = read_asking_prompts(DATA, [family])
    assert paired.conditions_of(family) == list(CONDITIONS.get(family, ("",)))
    for question in made[family]:
        released = paired.all_questions()[question.id]
        orders = paired.orders_of(released)
        assert len(orders) == (2 if family == "relative_decision" else 3)
        assert all(sorted(order) == list(range(len(question.options))) for order in orders)
        for condition in paired.conditions_of(family):
            for variant in (0, 1):
                order = tuple(orders[1])
                ask = Ask(question, variant, 0, "search", order, condition or "plain", "text")
                built = [m.content for m in method_of(family).messages(ask, prompts)]
                assert built == list(filter(None, paired.prompt_of(released, variant, order, condition)))


def test_words_and_tasks_are_read_as_in_the_build(assigned: tuple[Any, dict[str, list[Question]]]) -> None:
    from tasks.families.association import score_of
    from tasks.families.dialect import dialect_score
    from tasks.families.relative_decision import is_consistent, persons_of

    paired, made = assigned
    draw = Random(2)
    score = {"association": score_of, "dialect": dialect_score, "relative_decision": is_consistent}
    found = []
    for family, reading in score.items():
        for question in made[family]:
            released = paired.all_questions()[question.id]
            for variant in (0, 1):
                order = tuple(paired.orders_of(released)[variant])
                if family == "relative_decision":
                    given = draw.sample(persons_of(question, variant), 2)
                    text = f"<think>A: nobody</think>First some words.\nA: {given[0]}\n**B: {given[1]}**"
                else:
                    terms = question.variants[0].slots if family == "association" else ("Person A", "B")
                    text = "\n".join(f"* {o.text} – {draw.choice(terms)}" for o in question.options[1:])
                clean = text.partition("</think>")[2] or text
                answer = a_response(question, variant, text=clean)
                answer = answer.model_copy(update={"option_order": order})
                wanted = reading(question, answer)
                assert wanted is not None
                found.append(float(wanted))
                assert paired.score_of(released, variant, order, text) == pytest.approx(float(wanted))
                assert paired.score_of(released, variant, order, "I cannot say.") is None
    assert len(set(found)) > 3


def test_documents_of_words_have_every_condition_and_give_the_figures(
    assigned: tuple[Any, dict[str, list[Question]]],
) -> None:
    paired, made = assigned
    docs = list(paired.dialect()["test"])
    assert len(docs) == len(made["dialect"]) * 3 * 2 * 3
    items: dict[str, list[Any]] = {}
    for doc in docs:
        question = paired.all_questions()[doc["id"]]
        fair = doc["condition"] == "noise"
        people = ["Person A", "Person B"] if doc["variant"] == 0 else ["Person B", "Person A"]
        lines = [
            f"{o['text']} - {people[i % 2 if fair else o['role'] == 'stigma']}"
            for i, o in enumerate(question["options"])
        ]
        for name, item in paired.read_dialect(doc, ["\n".join(lines)]).items():
            items.setdefault(name, []).append(item)
    assert paired.mean_of_scores(items["d_shown"]) > 0.99
    assert abs(paired.mean_of_scores(items["d_noise"])) < 0.2
    assert paired.beyond_noise(items["beyond_noise"]) == pytest.approx(
        paired.mean_of_scores(items["d_shown"]) - paired.mean_of_scores(items["d_noise"])
    )
    assert paired.invalid(items["invalid"]) == 0
    unread = paired.read_dialect(docs[0], ["No."])
    assert paired.invalid([*items["invalid"], unread["invalid"]]) > 0


def test_likelihoods_of_texts_are_compared_by_pairs(assigned: tuple[Any, dict[str, list[Question]]]) -> None:
    paired, made = assigned
    docs = list(paired.perplexity_pair()["test"])
    texts = {v.text for q in made["perplexity_pair"] for v in q.variants}
    assert {d["prompt"] for d in docs} == texts
    items = [
        paired.read_perplexity_pair(d, [-float(len(d["prompt"].encode()) * (2 if d["variant"] else 1))])
        for d in docs
    ]
    found = [i["difference"] for i in items]
    assert paired.mean_difference(found) == pytest.approx(1)
    lost = paired.read_perplexity_pair(docs[0], [math.nan])
    assert paired.invalid([lost["unscored"]]) == 1


def test_tokens_of_a_text_are_found_inside_a_prompt(paired: Any) -> None:
    tokens = [("<user>", -9.0), ("Wom", -1.0), ("en ", -2.0), ("park", -3.0), ("</s>", -9.0)]
    assert paired.log_perplexity(tokens, "Women park") == pytest.approx(2)
    assert paired.log_perplexity(tokens, "Men park") is None
