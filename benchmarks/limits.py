"""Does the limiter of a model find an unannounced rate limit, and follow it when it changes?

    python benchmarks/limits.py [--rates 40 80 30] [--settle 20] [--measure 20] [--json]

A server on loopback, in its own process, accepts a fixed number of requests per second and answers 429 beyond
it, once with `Retry-After` and once without. 64 requests are always waiting. The limit is the first rate, and
after each measurement the next one. Per rate the benchmark reports the answered requests per second next to
the limit, and the share of 429 responses among all requests of the measurement.
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


def ask_until(stop: threading.Event, url: str, place: Path) -> None:
    """Send new questions without a pause."""
    name = f"openai:test-model@{url}"
    settings = ModelSettings(
        data_dir=PROJECT / "data",
        run_dir=place / "run",
        cache_path=place / "cache.sqlite",
        free=frozenset([name]),
        limits=lambda _: Limits(max_in_flight=IN_FLIGHT, attempts=50),
    )

    def requests() -> Iterator[Request]:
        for number in itertools.takewhile(lambda _: not stop.is_set(), itertools.count()):
            yield Request(str(number), (Message("user", f"question {number}"),), Decoding(64, seed=number))

    async def ask() -> None:
        async with open_model(name, settings) as model:
            async for _ in model.complete(requests()):
                pass

    asyncio.run(ask())


def follow(rates: list[float], says_when: bool, settle_s: float, measure_s: float) -> list[dict[str, Any]]:
    """Return the result of each rate in turn."""
    found, stop = [], threading.Event()
    with (
        tempfile.TemporaryDirectory() as place,
        Loopback(latency_s=LATENCY_S, per_second=rates[0], says_when=says_when) as server,
    ):
        asker = threading.Thread(target=ask_until, args=(stop, server.url, Path(place)))
        asker.start()
        for rate in rates:
            server.set(per_second=rate)
            time.sleep(settle_s)
            before, started = server.counts(), time.perf_counter()
            time.sleep(measure_s)
            seen, seconds = server.counts() - before, time.perf_counter() - started
            found.append(
                {
                    "limit": rate,
                    "retry_after": says_when,
                    "answered_per_s": round(seen["answer"] / seconds, 1),
                    "share_of_limit": round(seen["answer"] / seconds / rate, 3),
                    "share_429": round(seen["429"] / max(1, seen["requests"]), 4),
                }
            )
        server.set(per_second=100_000)
        stop.set()
        asker.join()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rates", type=float, nargs="*", default=[40.0, 80.0, 30.0])
    parser.add_argument("--settle", type=float, default=20.0, help="seconds before each measurement")
    parser.add_argument("--measure", type=float, default=20.0, help="seconds")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = [
        row
        for says_when in (True, False)
        for row in follow(options.rates, says_when, options.settle, options.measure)
    ]
    print(json.dumps(rows) if options.json else "\n".join(map(str, rows)))


if __name__ == "__main__":
    main()
