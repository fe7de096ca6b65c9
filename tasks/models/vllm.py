"""vLLM in this process (extra `vllm`): one engine per model, which batches all requests in flight.

An engine takes long to start, so it runs until the process ends, on an event loop of its own, and every stage
that opens the model uses it. Prefix caching is on, because many questions share their beginning. Batching
changes the order of floating-point sums, so a sampled answer is only repeatable from the cache.
"""

from __future__ import annotations

import asyncio
import atexit
import importlib.util
import itertools
import json
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from schemas.errors import InputError, ModelError
from tasks.models.empty_answers import require_content
from tasks.models.names import ModelName, fingerprint_folder, model_folder
from tasks.models.protocol import Completion, FailedAttempt, Message, Request, TokenLogprob

MAX_ALTERNATIVES = 20
"""Largest number of alternatives per token that an engine returns."""
STOP_TIMEOUT_S = 30.0
"""Seconds that the end of a process waits for an engine to stop."""
QUIET = {
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_WORKER_MULTIPROCESSING_METHOD": "spawn",
}
"""Set before vLLM is imported, unless the environment has other values. Its log must not mix with the output
of this project, and a process with threads must not be forked."""


class VLLMModel:
    """A `Backend` over the engine of this process."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def ask(self, request: Request) -> Completion | FailedAttempt:
        """Make one attempt on the engine's event loop."""
        answer = self._engine.answer(request)
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(answer, self._engine.loop))

    async def close(self) -> None:
        """Do nothing: the engine stays for the next stage."""


@dataclass
class Engine:
    """A running engine with its event loop."""

    vllm: Any = field(repr=False)
    loop: asyncio.AbstractEventLoop
    revision: str | None
    _numbers: Any = field(default_factory=itertools.count, repr=False)

    async def answer(self, request: Request) -> Completion | FailedAttempt:
        """Make one attempt. Runs on the engine's loop."""
        from vllm.exceptions import VLLMClientError
        from vllm.v1.engine.exceptions import EngineDeadError

        try:
            prompt = self._prompt(request)
            context = self.vllm.model_config.max_model_len
            if len(prompt) + request.decoding.max_tokens > context and not request.score_prompt:
                return context_exceeded(len(prompt), request.decoding.max_tokens, context)
            output = None
            async for output in self.vllm.generate(  # noqa: B007
                {"prompt_token_ids": prompt}, sampling(request), str(next(self._numbers))
            ):
                pass
        except EngineDeadError:
            forget_engine(self)
            return FailedAttempt("server", "the engine stopped; vLLM's log contains the reason", final=True)
        except (VLLMClientError, ValueError) as error:
            return FailedAttempt("bad_request", f"vLLM: {_first_line(error)}", final=True)
        return read_output(output, request, self.revision)

    def _prompt(self, request: Request) -> list[int]:
        """Return token ids. Raise `ValueError` if the chat template rejects the messages."""
        from jinja2 import TemplateError

        tokenizer = self.vllm.get_tokenizer()
        if request.score_prompt:
            return list(tokenizer.encode(request.messages[-1].content))
        try:
            text = tokenizer.apply_chat_template(
                as_dicts(request.messages), add_generation_prompt=True, tokenize=False
            )
        except TemplateError as error:
            raise ValueError(f"the chat template: {_first_line(error)}") from None
        return list(tokenizer.encode(text, add_special_tokens=False))


_engines: dict[str, Engine] = {}
_starting = threading.Lock()


def vllm_engine(model: ModelName, arguments: Mapping[str, Any]) -> Engine:
    """Return the engine of a model. It is started on first use and stopped when the process ends.

    Raises:
        InputError: If vLLM is not installed or the folder does not exist.
        ModelError: If the engine does not start.
    """
    check_vllm(model)
    key = json.dumps([str(model), arguments], sort_keys=True)
    with _starting:
        if key not in _engines:
            engine = _start(model, arguments)
            if not _engines:  # only now, so that it runs before the exit handlers of vLLM
                atexit.register(_stop_all)
            _engines[key] = engine
        return _engines[key]


def forget_engine(engine: Engine) -> None:
    """Discard an engine, so that the next caller starts another."""
    for key in [key for key, known in _engines.items() if known is engine]:
        _engines.pop(key, None)


def check_vllm(model: ModelName) -> None:
    """Check that vLLM is installed and the model folder exists, without starting an engine.

    Raises:
        InputError: If not.
    """
    if importlib.util.find_spec("vllm") is None:
        raise InputError(
            "vLLM is not installed in this environment",
            place=str(model),
            hint="install the extra `vllm` into an environment of its own (docs/guides/models.md); or start "
            f"`vllm serve {model.name}` and name it `openai:{model.name}@http://localhost:8000/v1`",
        )
    model_folder(model)


def _start(model: ModelName, arguments: Mapping[str, Any]) -> Engine:
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    folder = model_folder(model)
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name=f"{model}", daemon=True).start()
    started = asyncio.run_coroutine_threadsafe(_engine(str(folder or model.name), arguments), loop)
    try:
        return Engine(started.result(), loop, fingerprint_folder(folder) if folder else None)
    except (Exception, SystemExit) as error:
        loop.call_soon_threadsafe(loop.stop)
        raise ModelError(
            f"vLLM did not start: {_first_line(error)}",
            place=str(model),
            hint="its own message is above; if memory ran out, set `models.engine` in the recipe, for "
            "example {max_model_len: 8192, gpu_memory_utilization: 0.8}",
        ) from None


async def _engine(model: str, arguments: Mapping[str, Any]) -> Any:
    from vllm import AsyncEngineArgs
    from vllm.platforms import current_platform
    from vllm.v1.engine.async_llm import AsyncLLM

    settings = {"enable_prefix_caching": True, "max_logprobs": MAX_ALTERNATIVES, "disable_log_stats": True}
    if current_platform.is_cpu():  # The CPU engine crashes on a seeded request with chunked prefill.
        settings["enable_chunked_prefill"] = False
    return AsyncLLM.from_engine_args(AsyncEngineArgs(model=model, **{**settings, **arguments}))


def _stop_all() -> None:
    """Stop each engine on its own loop, where nothing else notices that the engine is gone."""
    for engine in _engines.values():
        asyncio.run_coroutine_threadsafe(_stop(engine), engine.loop).result(STOP_TIMEOUT_S)
    _engines.clear()


async def _stop(engine: Engine) -> None:
    engine.vllm.shutdown()


def sampling(request: Request) -> Any:
    """Return `vllm.SamplingParams` of a request."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    arguments = sampling_arguments(request)
    constraint = arguments.pop("structured_outputs", None)
    return SamplingParams(
        **arguments,
        structured_outputs=StructuredOutputsParams(**constraint) if constraint else None,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def sampling_arguments(request: Request) -> dict[str, Any]:
    """Return the sampling parameters of a request under vLLM's names.

    To score a text, one token is generated and discarded.
    """
    decoding = request.decoding
    if request.score_prompt:
        return {"max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0}
    arguments: dict[str, Any] = {
        "max_tokens": decoding.max_tokens,
        "temperature": decoding.temperature,
        "top_p": decoding.top_p,
        "seed": decoding.seed,
        "stop": list(decoding.stop),
        "logprobs": decoding.top_logprobs or None,
    }
    if request.json_schema:
        arguments["structured_outputs"] = {"json": request.json_schema.schema}
    elif decoding.choices:
        arguments["structured_outputs"] = {"choice": list(decoding.choices)}
    return arguments


def read_output(output: Any, request: Request, revision: str | None) -> Completion | FailedAttempt:
    """Convert a finished `RequestOutput` to a completion."""
    tokens_in = len(output.prompt_token_ids or ())
    if request.score_prompt:
        logprobs = prompt_logprobs(output.prompt_token_ids, output.prompt_logprobs or ())
        if not logprobs:
            return FailedAttempt(
                "bad_request", "a text of fewer than two tokens has no perplexity", final=True
            )
        return Completion(request.tag, "", None, revision, tokens_in, 0, 0.0, False, prompt_logprobs=logprobs)
    answer = output.outputs[0]
    if answer.finish_reason not in ("stop", "length"):
        return FailedAttempt("server", f"the engine gave the request up ({answer.finish_reason})")
    completion = Completion(
        tag=request.tag,
        text=answer.text,
        finish_reason=answer.finish_reason,
        revision=revision,
        tokens_in=tokens_in,
        tokens_out=len(answer.token_ids),
        cost_usd=0.0,
        cached=False,
        logprobs=token_logprobs(answer.token_ids, answer.logprobs or (), request.decoding.top_logprobs),
    )
    return require_content(completion)


def token_logprobs(
    token_ids: Sequence[int], steps: Sequence[Mapping[int, Any]], alternatives: int
) -> tuple[TokenLogprob, ...]:
    """Return the token generated at each step, with the most likely alternatives by rank."""
    return tuple(
        TokenLogprob(
            _text(step[token]),
            float(step[token].logprob),
            tuple(
                (_text(entry), float(entry.logprob))
                for entry in sorted(step.values(), key=lambda entry: entry.rank)
                if entry.rank <= alternatives
            ),
        )
        for token, step in zip(token_ids, steps, strict=False)
        if token in step
    )


def prompt_logprobs(token_ids: Sequence[int], steps: Sequence[Mapping[int, Any] | None]) -> tuple[float, ...]:
    """Return ln p of each token of a text except the first."""
    pairs = list(zip(token_ids, steps, strict=False))[1:]
    return tuple(min(0.0, float(step[token].logprob)) for token, step in pairs if step)


def as_dicts(messages: Sequence[Message]) -> list[dict[str, str]]:
    """Return messages in the form that chat templates take."""
    return [{"role": message.role, "content": message.content} for message in messages]


def context_exceeded(prompt: int, answer: int, context: int) -> FailedAttempt:
    """Return the failure of a request that does not fit into the context. vLLM's server rejects it too."""
    message = f"{prompt} tokens of prompt and {answer} of answer do not fit into a context of {context}"
    return FailedAttempt("bad_request", message, final=True)


def _text(entry: Any) -> str:
    return entry.decoded_token or ""


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
