"""Money is reserved before it is spent, across retries, threads, processes and restarts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import BudgetError, InputError, ModelError
from schemas.recipe import Limits
from tasks.files.yaml import read_yaml
from tasks.models import run_async
from tasks.models.budget import SLICE, Ledger, ledger_of, spent_in
from tasks.models.names import parse_model_name
from tasks.models.preflight import preflight
from tasks.models.prices import FREE, PriceList, TokenPrice, price_of
from tasks.models.probe import probe_models
from tasks.models.protocol import Completion, Failure
from tests.servers.openai_server import TRUNCATED, OpenAIServer, Reply
from tests.tasks.models.asking import DATA, answers, questions, settings_for

PRICES = """models:
  test-model: {input: 1.0, output: 10.0, cached: 0.5, source: "a test", as_of: "2026-01-01"}
"""
USD_PER_ANSWER = (100 * 1.0 + 10 * 10.0) / 1e6


def priced_settings(place: Path, budget_usd: float, **more: object):  # type: ignore[no-untyped-def]
    place.mkdir(exist_ok=True)
    (place / "prices.yaml").write_text(PRICES)
    limits = Limits(max_in_flight=8, timeout_s=5, attempts=3)
    return settings_for(
        place, budget_usd=budget_usd, prices_path=place / "prices.yaml", limits=limits, **more
    )


def listed_in(path: Path, name: str, *, batch: bool = False) -> TokenPrice:
    batched = (name,) if batch else ()
    return price_of(parse_model_name(name), configured=name, free=(), prices_path=path, batch=batched)


def test_the_library_knows_prices_of_common_models() -> None:
    price = listed_in(DATA / "prices.yaml", "openai:gpt-5-mini")
    assert price.cost_usd(1_000_000, 1_000_000, calls=1000) == 2.25
    assert price.cost_usd(1_000_000, 0, tokens_in_cached=1_000_000, calls=1000) == 0.025
    assert price.source.startswith("genai-prices ")


def test_batches_have_the_price_of_the_batch_api() -> None:
    batched = listed_in(DATA / "prices.yaml", "openai:gpt-5-mini", batch=True)
    assert (batched.input, batched.output) == (0.125, 1.0)
    assert batched.as_of is not None


def test_long_prompts_cost_more_and_many_short_ones_do_not() -> None:
    price = listed_in(DATA / "prices.yaml", "openai:gpt-5.4")
    assert price.cost_usd(300_000, 0) == pytest.approx(2 * 0.3 * price.input)
    assert price.cost_usd(300_000, 0, calls=100) == pytest.approx(0.3 * price.input)


def test_own_prices_take_precedence_over_the_library(tmp_path: Path) -> None:
    own = tmp_path / "prices.yaml"
    own.write_text(
        'batch: 0.5\nmodels: {gpt-5-mini: {input: 7, output: 8, source: "a contract", as_of: "2026-01-01"}}'
    )
    assert listed_in(own, "openai:gpt-5-mini-2025-08-07").input == 7
    assert listed_in(own, "openai:gpt-5-mini", batch=True).output == 4
    assert listed_in(own, "openai:gpt-5").input == 1.25


def test_a_server_has_the_prices_of_its_provider() -> None:
    name = "openai:deepseek-chat@https://api.deepseek.com/v1"
    assert 0 < listed_in(DATA / "prices.yaml", name).input < listed_in(DATA / "prices.yaml", name).output


def test_the_shipped_price_list_is_valid() -> None:
    assert read_yaml(DATA / "prices.yaml", PriceList).batch == 0.5


def test_dated_snapshots_have_the_price_of_the_model_and_own_servers_are_free() -> None:
    def price(name: str, *free: str) -> object:
        return price_of(parse_model_name(name), configured=name, free=free, prices_path=DATA / "prices.yaml")

    assert price("openai:gpt-5-mini-2025-08-07") == price("openai:gpt-5-mini")
    assert price("embedded:smollm2-135m") == price("replay:a.parquet") == FREE
    mine = "openai:mine@http://gpu:8000/v1"
    assert price(mine, mine) == FREE
    with pytest.raises(BudgetError) as caught:
        price(mine)
    for way_out in ("prices.yaml", "budget.free", "another model", mine):
        assert way_out in str(caught.value)


def test_a_build_stops_at_its_budget(tmp_path: Path) -> None:
    worst = (10 * 1.0 + 20 * 10.0) / 1e6
    with OpenAIServer(Reply("yes", usage=(100, 10))) as server:
        found = answers(server.model(), priced_settings(tmp_path, 0.004), questions(60))
        sent = len(server.requests)
    done = [o for o in found.values() if isinstance(o, Completion)]
    failed = [o for o in found.values() if isinstance(o, Failure)]
    assert {o.cost_usd for o in done} == {USD_PER_ANSWER}
    assert {o.kind for o in failed} == {"budget"}
    assert len(done) == sent
    assert 0.004 - worst - 8 * USD_PER_ANSWER <= sent * USD_PER_ANSWER <= 0.004 + 8 * USD_PER_ANSWER
    assert "$0.004" in failed[0].message


def test_spending_survives_a_restart_and_cached_answers_cost_nothing(
    tmp_path: Path,
) -> None:
    with OpenAIServer(Reply("yes", usage=(100, 10))) as server:
        settings = priced_settings(tmp_path, 1.0)
        first = answers(server.model(), settings, questions(10))
        again = answers(server.model(), settings, questions(10))
        assert len(server.requests) == 10
    spent = json.loads((tmp_path / "run" / "spend.json").read_text())["usd"]
    assert spent == pytest.approx(10 * USD_PER_ANSWER)
    assert Ledger(tmp_path / "run" / "spend.json", 1.0).spent_usd() == pytest.approx(spent)
    costs = [o.cost_usd for o in (*first.values(), *again.values()) if isinstance(o, Completion)]
    assert costs == [USD_PER_ANSWER] * 20


def test_a_lost_answer_counts_because_it_may_be_billed(tmp_path: Path) -> None:
    with OpenAIServer(Reply("yes", usage=(100, 10)), faults=[TRUNCATED, TRUNCATED]) as server:
        answers(server.model(), priced_settings(tmp_path, 1.0), questions(1))
    spent = json.loads((tmp_path / "run" / "spend.json").read_text())["usd"]
    worst = (7 * 1.0 + 20 * 10.0) / 1e6
    assert spent == pytest.approx(USD_PER_ANSWER + 2 * worst)


def test_requests_that_were_not_sent_cost_nothing(tmp_path: Path) -> None:
    with OpenAIServer("yes") as server:
        gone = server.model()
    limits = Limits(outage_s=0.1)
    with pytest.raises(ModelError, match=r"connection to .* failed"):
        answers(gone, replace(priced_settings(tmp_path, 1.0), limits=lambda _: limits), questions(1))
    assert json.loads((tmp_path / "run" / "spend.json").read_text())["usd"] == 0


def test_a_budget_of_nothing_sends_nothing(tmp_path: Path) -> None:
    with OpenAIServer("yes") as server:
        found = answers(server.model(), priced_settings(tmp_path, 0.0), questions(5))
        assert not server.requests
    assert {o.kind for o in found.values() if isinstance(o, Failure)} == {"budget"}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 0.2), st.floats(0, 1)), max_size=40))
def test_reservations_never_pass_the_limit(calls: list[tuple[float, float]]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        ledger = Ledger(Path(place) / "spend.json", 1.0)
        held = []
        for usd, share in calls:
            if ledger.reserve(usd):
                held.append((usd, usd * share))
            if len(held) > 3:
                ledger.settle(*held.pop(0))
            assert ledger._spent + ledger._reserved <= 1.0 + 1e-6
        for reserved, actual in held:
            ledger.settle(reserved, actual)
        ledger.close()
        assert Ledger(ledger.path, 1.0).spent_usd() == pytest.approx(ledger._spent, abs=1e-6)


def test_threads_share_one_ledger(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path, 1.0)
    assert ledger is ledger_of(tmp_path, 1.0)
    granted = []

    def spend() -> None:
        for _ in range(100):
            if ledger.reserve(0.01):
                granted.append(1)
                ledger.settle(0.01, 0.01)

    with ThreadPoolExecutor(4) as threads:
        for _ in range(4):
            threads.submit(spend)
    assert len(granted) == 100


SPENDER = """
import sys
from pathlib import Path
from tasks.models.budget import Ledger
ledger = Ledger(Path(sys.argv[1]) / "spend.json", 1.0)
granted = 0
for _ in range(100):
    if ledger.reserve(0.01):
        granted += 1
        ledger.settle(0.01, 0.01)
ledger.close()
print(granted)
"""


def test_processes_share_one_budget(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SPENDER, str(tmp_path)]
    workers = [
        subprocess.Popen(command, cwd=DATA.parent, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    assert sum(int(worker.communicate(timeout=60)[0]) for worker in workers) == 100


def test_after_a_kill_the_record_is_never_too_low(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from tasks.models.budget import Ledger\n"
        "ledger = Ledger(Path(sys.argv[1]) / 'spend.json', 1.0)\n"
        "for _ in range(35): ledger.reserve(0.01); ledger.settle(0.01, 0.005)\n"
        "ledger.reserve(0.02); print('ready', flush=True); time.sleep(60)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, cwd=DATA.parent
    )
    assert child.stdout
    child.stdout.readline()
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    spent = Ledger(tmp_path / "spend.json", 1.0).spent_usd()
    assert 35 * 0.005 <= spent <= 35 * 0.005 + 0.02 + SLICE + 1e-9


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "spend.json").write_text("{}")
    with pytest.raises(InputError, match=r"spend\.json"):
        Ledger(tmp_path / "spend.json", 1.0).reserve(0.1)


@pytest.mark.parametrize("listed", [True, False])
def test_the_question_that_checks_a_server_is_paid_for(tmp_path: Path, listed: bool) -> None:
    with OpenAIServer("Yes", models=("test-model",) if listed else ("other",)) as server:
        settings = priced_settings(tmp_path, budget_usd=1.0)
        preflight([server.model()], settings)
        assert len(server.requests) == (0 if listed else 1)
    assert (spent_in(settings.run_dir) > 0) == (not listed)


def test_a_probe_is_paid_for(tmp_path: Path) -> None:
    with OpenAIServer("Yes") as server:
        settings = priced_settings(tmp_path, budget_usd=1.0)
        (report,) = run_async(probe_models([server.model()], settings, send=True))
    assert report.cost_usd > 0
    assert spent_in(settings.run_dir) == pytest.approx(report.cost_usd)
