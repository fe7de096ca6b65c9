"""The key of an answer in the response cache.

It holds everything that can change what a model answers: the model as configured with the endpoint that
serves it, the messages, the decoding (length, temperature, top-p, seed, stop words, alternatives, and the
choices where there are any), the JSON schema, the sample index, because the second answer to one question is
another answer, and whether the text itself is scored instead of answered.

It ignores, on purpose:

- `tag` and `stage`: the caller's bookkeeping. One question asked by two stages is paid for once.
- limits, timeouts, attempts, how many requests are in flight: they say when an answer comes, not which.
- which endpoints serve a model that has several, how many they are, and which of them answered: naming them
  together says that they serve one model. One endpoint alone is part of the key, because two servers may
  give one name to different weights; so answers from before the second endpoint was added are not reused.
- API keys, and the environment variables that hold them: who pays does not change the answer. They must
  never be stored either.
- prices and budget: the cost of a stored answer is computed when it is read.
- what the server turned out not to support (`seed`, `logprobs`, …): it is a property of the model named.
- the revision that the server reports: it is known only after asking, so it is stored with the answer.
"""

from __future__ import annotations

import json

from schemas.ids import content_hash
from tasks.models.protocol import Request

VERSION = 1
"""Raise it when the meaning of a stored answer changes."""


def fingerprint(model: str, request: Request) -> str:
    """sha256 (hex) of what decides the answer. `model` is the name with its resolved endpoint."""
    decoding, schema = request.decoding, request.json_schema
    return content_hash(
        [
            VERSION,
            model,
            [[message.role, message.content] for message in request.messages],
            [decoding.max_tokens, float(decoding.temperature), float(decoding.top_p), decoding.seed],
            [list(decoding.stop), decoding.top_logprobs, *filter(None, [list(decoding.choices)])],
            [schema.name, json.dumps(schema.schema)] if schema else None,  # in its order: answers follow it
            request.sample,
            *(["score_prompt"] if request.score_prompt else []),
        ]
    )
