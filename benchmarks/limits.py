"""Measure whether a model's limiter finds an unannounced rate limit and follows it when it changes.

    python benchmarks/limits.py [--rates 40 80 30] [--settle 20] [--measure 20] [--json]

A server on loopback, in its own process, accepts a fixed number of requests per second and answers 429 beyond
it, once with `Retry-After` and once without. 64 requests are always in flight. The limit starts at the first
rate and changes to the next one after each measurement. For each rate the benchmark reports the answered
requests per second next to the limit, and the share of 429 responses among all requests of the measurement.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from benchmarks.loopback import Loopback
from schemas.recipe import Limits
from tasks.models import ModelSettings, open_model
from tasks.models.protocol import Decoding, Message, Request

IN_FLIGHT, LATENCY_S = 64, 0.05


def send_until(stop: threading.Event, url: str, folder: Path) -> None:
    """Send new requests without a pause until the event is set."""
    name = f"openai:test-model@{url}"
    settings = ModelSettings(
        data_dir=PROJECT / "data",
        run_dir=folder / "run",
        cache_path=folder / "cache.sqlite",
        free=frozenset([name]),
        limits=lambda _: Limits(max_in_flight=IN_FLIGHT, attempts=50),
    )

    def requests() -> Iterator[Request]:
        for number in itertools.takewhile(lambda _: not stop.is_set(), itertools.count()):
            yield Request(str(number), (Message("user", f"question {number}"),), Decoding(64, seed=number))

    async def send() -> None:
        async with open_model(name, settings) as model:
            async for _ in model.complete(requests()):
                pass

    asyncio.run(send())


def measure_rates(
    rates: list[float], retry_after: bool, settle_s: float, measure_s: float
) -> list[dict[str, Any]]:
    """Measure one rate after the other against the same server.

    Returns:
        One row per rate.
    """
    rows, stop = [], threading.Event()
    with (
        tempfile.TemporaryDirectory() as folder,
        Loopback(latency_s=LATENCY_S, per_second=rates[0], retry_after=retry_after) as server,
    ):
        sender = threading.Thread(target=send_until, args=(stop, server.url, Path(folder)))
        sender.start()
        for rate in rates:
            server.set(per_second=rate)
            time.sleep(settle_s)
            before, started = server.counts(), time.perf_counter()
            time.sleep(measure_s)
            counts, seconds = server.counts() - before, time.perf_counter() - started
            rows.append(
                {
                    "limit": rate,
                    "retry_after": retry_after,
                    "answered_per_s": round(counts["answer"] / seconds, 1),
                    "share_of_limit": round(counts["answer"] / seconds / rate, 3),
                    "share_429": round(counts["429"] / max(1, counts["requests"]), 4),
                }
            )
        server.set(per_second=100_000)
        stop.set()
        sender.join()
    return rows


def main() -> None:
    """Print one row per rate, with and without `Retry-After`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--rates", type=float, nargs="*", default=[40.0, 80.0, 30.0], help="limits in requests per second"
    )
    parser.add_argument("--settle", type=float, default=20.0, help="seconds before each measurement")
    parser.add_argument("--measure", type=float, default=20.0, help="seconds of each measurement")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    rows = [
        row
        for retry_after in (True, False)
        for row in measure_rates(options.rates, retry_after, options.settle, options.measure)
    ]
    print(json.dumps(rows) if options.json else "\n".join(map(str, rows)))


if __name__ == "__main__":
    main()
