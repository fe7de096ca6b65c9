"""Capabilities of a server for one model, learnt once from the requests that it refuses.

A refused parameter is left out from then on, or replaced by the next best: `max_completion_tokens` by
`max_tokens`, a strict schema by JSON mode and then by the schema in the prompt, the system role by the first
user message. Every change is recorded, because it can change the answers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import Any, Literal, get_args

from schemas.release import ParameterChange
from tasks.models.names import OPENAI_ENDPOINT, parse_model_name
from tasks.models.protocol import Completion, FailedAttempt, Request
from tasks.run.store import write_bytes

StructuredOutput = Literal["json_schema", "json_object", "prompt"]
"""How a JSON schema is sent: enforced by the server, as JSON mode with the schema in the prompt, or only in
the prompt."""

OPTIONAL_PARAMETERS = (
    "response_format",
    "structured_outputs",
    "grammar",
    "top_logprobs",
    "logprobs",
    "seed",
    "max_completion_tokens",
    "max_tokens",
    "temperature",
    "top_p",
    "stop",
    "reasoning_effort",
    "chat_template_kwargs",
)
LENGTH_PARAMETERS = ("max_tokens", "max_completion_tokens")
REQUIRED = ("model", "messages")
SAMPLING = ("temperature", "top_p")
SYSTEM_FOLDED = "system role refused: its text precedes the first user message"
NO_LOGPROBS = "log-probabilities requested and not available"
FILE = "capabilities.json"


@dataclass
class Capabilities:
    """Known capabilities of a server for one model. Kept per model and process."""

    length: str = "max_tokens"
    """Name of the token limit."""
    refused: set[str] = field(default_factory=set)
    """Parameters that are not sent."""
    owner: str | None = None
    """Owner of the model according to the server (`owned_by`). `llamacpp` and `vllm` can be restricted to
    choices, each in its own way. `None`: not asked yet. Empty: the server does not state it."""
    system_role: bool = True
    """Whether system messages are accepted. If not, their text precedes the first user message."""
    structured: StructuredOutput = "json_schema"
    most_logprobs: int | None = None
    """Largest number of alternatives per token. `None`: no limit is known."""
    reasoning: bool = False
    """Whether an answer had reasoning in a field of its own or in a `<think>` block."""
    changes: dict[str, str] = field(default_factory=dict)
    """Differences between the request and the call, by parameter, as a sentence."""
    requested: dict[str, set[float]] = field(default_factory=dict)
    """Values of a refused temperature or top-p that requests asked for."""
    restored: bool = False
    """Whether the record of an earlier process was looked for. From then on this process's findings count."""

    @classmethod
    def of(cls, endpoint: str) -> Capabilities:
        """Return the assumptions about an endpoint before the first request."""
        if endpoint == OPENAI_ENDPOINT:
            return cls("max_completion_tokens", owner="openai")
        return cls()

    def give_up(self, refusal: Refusal, body: Mapping[str, Any]) -> bool:
        """Adapt to a refusal. Return False if the request cannot be sent in another form."""
        name = refusal.parameter
        if name == "system":
            self.system_role = False
            self.changes["system"] = SYSTEM_FOLDED
            return True
        if name in LENGTH_PARAMETERS:
            return self._swap_length(name)
        if name == "response_format":
            return self._weaken_format(refusal, body)
        if "logprobs" in name:
            return self._limit_logprobs(refusal, body)
        self.refused.add(name)
        self.note_dropped(name, body.get(name))
        return True

    def note_dropped(self, name: str, value: Any = None) -> None:
        """Record that a parameter was requested and not sent.

        Seeds differ between requests, so only temperature and top-p are recorded with their values.
        """
        if name in SAMPLING and isinstance(value, (int, float)):
            self.requested.setdefault(name, set()).add(float(value))
        values = ", ".join(f"{v:g}" for v in sorted(self.requested.get(name, ())))
        self.changes[name] = f"{name} {values}".rstrip() + " requested, server default used"

    def note_adapted(self, names: Iterable[str], request: Request) -> None:
        """Record the changed parameters of an answer, which may be from the cache.

        Args:
            names: See `Completion.adapted`.
            request: The request of the answer.
        """
        for name in names:
            parameter, _, form = name.partition(":")
            if parameter == "system":
                self.changes["system"] = SYSTEM_FOLDED
            elif parameter == "response_format":
                mode = " with JSON mode" if form == "json_object" else ""
                self.changes.setdefault(parameter, f"json_schema refused, schema in the prompt{mode}")
            elif parameter == "top_logprobs":
                asked = request.decoding.top_logprobs
                self.changes.setdefault(parameter, f"{asked} alternatives requested, at most {form} allowed")
            elif parameter == "logprobs":
                self.changes[parameter] = NO_LOGPROBS
            else:
                self.note_dropped(parameter, getattr(request.decoding, parameter, None))

    def adapted(self, request: Request) -> tuple[str, ...]:
        """Return the parameters of a request that the server does not get, see `Completion.adapted`."""
        if self.system_role and not self.refused and self.structured == "json_schema":
            most = self.most_logprobs
            if most is None or request.decoding.top_logprobs <= most:
                return ()
        decoding, names = request.decoding, []
        if not self.system_role and any(message.role == "system" for message in request.messages):
            names.append("system")
        if request.json_schema and self.structured != "json_schema":
            names.append(f"response_format:{self.structured}")
        if decoding.top_logprobs and "logprobs" in self.refused:
            names.append("logprobs")
        elif self.most_logprobs is not None and decoding.top_logprobs > self.most_logprobs:
            names.append(f"top_logprobs:{self.most_logprobs}")
        wanted = {
            "temperature": True,
            "top_p": True,
            "seed": decoding.seed is not None,
            "stop": bool(decoding.stop),
        }
        further = json.loads(decoding.extra) if decoding.extra else {}
        names += [name for name in self.refused if wanted.get(name) or name in further]
        return tuple(sorted(names))

    def _swap_length(self, name: str) -> bool:
        if name != self.length:
            return True
        other = "max_completion_tokens" if name == "max_tokens" else "max_tokens"
        if other in self.refused:
            return False
        self.refused.add(name)
        self.length = other
        return True

    def _weaken_format(self, refusal: Refusal, body: Mapping[str, Any]) -> bool:
        sent = str((body.get("response_format") or {}).get("type"))
        if sent != self.structured:  # sent before another request learnt better
            return True
        weaker = sent == "json_schema" and refusal.value_only
        self.structured = "json_object" if weaker else "prompt"
        if not weaker:
            self.refused.add("response_format")
        self.changes["response_format"] = f"{sent} refused, schema in the prompt" + (
            " with JSON mode" if weaker else ""
        )
        return True

    def _limit_logprobs(self, refusal: Refusal, body: Mapping[str, Any]) -> bool:
        asked = int(body.get("top_logprobs") or 0)
        if refusal.limit is not None and 0 < refusal.limit < asked:
            self.most_logprobs = min(refusal.limit, self.most_logprobs or refusal.limit)
            self.changes["top_logprobs"] = f"{asked} alternatives requested, at most {refusal.limit} allowed"
            return True
        self.refused |= {"logprobs", "top_logprobs"}
        self.changes["logprobs"] = NO_LOGPROBS
        return True

    def describe(self) -> dict[str, Any]:
        """Return the record that `counterfoil models` prints and the run keeps."""
        fixed = "temperature" in self.refused
        return {
            "system_role": self.system_role,
            "temperature": "server default" if fixed else "free",
            "token_limit": self.length,
            "seed": "seed" not in self.refused,
            "logprobs": False if "logprobs" in self.refused else self.most_logprobs or True,
            "response_format": self.structured,
            "reasoning": self.reasoning,
            "owner": self.owner,
            "not_sent": sorted(self.refused),
            "changes": dict(sorted(self.changes.items())),
            "requested": {name: sorted(values) for name, values in sorted(self.requested.items())},
        }

    def restore(self, record: Mapping[str, Any]) -> None:
        """Take over the record of an earlier process of the run. Damaged fields are ignored.

        Args:
            record: A record as `describe` returns it.
        """
        refused, changes, alternatives = record.get("not_sent"), record.get("changes"), record.get("logprobs")
        if isinstance(refused, list):
            self.refused |= {name for name in refused if name in OPTIONAL_PARAMETERS}
        if isinstance(changes, dict):
            self.changes |= {str(name): str(text) for name, text in changes.items()}
        if isinstance(requested := record.get("requested"), dict):
            for name in SAMPLING:
                values = requested.get(name)
                for value in values if isinstance(values, list) else ():
                    if isinstance(value, (int, float)):
                        self.requested.setdefault(name, set()).add(float(value))
        if record.get("token_limit") in LENGTH_PARAMETERS:
            self.length = record["token_limit"]
        if record.get("response_format") in get_args(StructuredOutput):
            self.structured = record["response_format"]
        if isinstance(alternatives, int) and not isinstance(alternatives, bool) and alternatives > 0:
            self.most_logprobs = alternatives
        self.system_role = record.get("system_role") is not False
        self.reasoning = record.get("reasoning") is True


def with_adapted(
    outcome: Completion | FailedAttempt, capabilities: Capabilities, request: Request
) -> Completion | FailedAttempt:
    """Return an outcome with the parameters that the server did not get."""
    names = capabilities.adapted(request) if isinstance(outcome, Completion) else ()
    return replace(outcome, adapted=names) if isinstance(outcome, Completion) and names else outcome


_known: dict[tuple[str, str], Capabilities] = {}
_known_lock = Lock()


def capabilities_of(endpoint: str, name: str) -> Capabilities:
    """Return this process's knowledge of a model's server."""
    with _known_lock:
        return _known.setdefault((endpoint, name), Capabilities.of(endpoint))


# Keeping the results with the run


def keep_capabilities(run_dir: Path, model: str, capabilities: Capabilities) -> None:
    """Write the learnt capabilities of a model into the run directory, if there are any."""
    if not (capabilities.changes or capabilities.refused or capabilities.reasoning):
        return
    with _known_lock:
        kept = read_capabilities(run_dir)
        record = capabilities.describe()
        # Several servers of one model share a record.
        earlier = kept.get(model)
        changes = earlier.get("changes") if isinstance(earlier, dict) else None
        record["changes"] = dict(sorted({**(changes or {}), **record["changes"]}.items()))
        if earlier == record:
            return
        run_dir.mkdir(parents=True, exist_ok=True)
        content = json.dumps({**kept, model: record}, indent=1, sort_keys=True, ensure_ascii=False)
        write_bytes(run_dir / FILE, content.encode())


def restore_capabilities(run_dir: Path, model: str, capabilities: Capabilities) -> None:
    """Start with the results of earlier processes of the run, once per process and model."""
    with _known_lock:
        if capabilities.restored:
            return
        capabilities.restored = True
        record = read_capabilities(run_dir).get(model)
        if isinstance(record, dict):
            capabilities.restore(record)


def read_capabilities(run_dir: Path) -> dict[str, dict[str, Any]]:
    """Return the records of a run by model. Empty if nothing was learnt."""
    try:
        kept = json.loads((run_dir / FILE).read_bytes())
    except (OSError, ValueError):
        return {}
    return kept if isinstance(kept, dict) else {}


def parameter_changes(run_dir: Path, models: Iterable[str] | None = None) -> tuple[ParameterChange, ...]:
    """Return the parameters that the servers of a run rejected, by model, without addresses.

    Args:
        run_dir: Folder of the run.
        models: Models as the recipe or the command names them. `None`: all of the run.
    """
    found, wanted = set(), None if models is None else set(models)
    for model, record in read_capabilities(run_dir).items():
        if wanted is not None and model not in wanted:
            continue
        changes = record.get("changes") if isinstance(record, dict) else None
        parsed = parse_model_name(model)
        for parameter, change in changes.items() if isinstance(changes, dict) else ():
            found.add((f"{parsed.backend}:{parsed.name}", str(parameter), str(change)))
    return tuple(ParameterChange(model=m, parameter=p, change=c) for m, p, c in sorted(found))


def changes_of(run_dir: Path, models: Iterable[str]) -> dict[str, list[dict[str, str]]]:
    """Return the field `parameter_changes` of a command's result. Empty if nothing was rejected."""
    changes = parameter_changes(run_dir, models)
    return {"parameter_changes": [change.model_dump() for change in changes]} if changes else {}


# Reading a refusal


@dataclass(frozen=True)
class Refusal:
    """A parameter that a server refused."""

    parameter: str
    """A parameter of the request, or `system` for the system role."""
    value_only: bool = False
    """The parameter is known, and only this value of it is refused."""
    limit: int | None = None
    """The largest value that is allowed."""


_UNSUPPORTED = re.compile(
    r"unsupported|not support|doesn.t support|unknown|unrecogni[sz]ed|unexpected|not permitted|not allowed"
    r"|extra[_ ]?(inputs?|forbidden|fields?)|unavailable|not available|invalid (parameter|value|schema)"
    r"|not implemented|disabled|not enabled|must be one of|supported values|input should be|only the default"
    r"|strictly positive|must be (in|between|at least|at most|greater|less|positive)|out of range"
    r"|deprecated|cannot be (used|set|specified)|greater than max|max(imum)? allowed|is not a valid"
    r"|incompatible|no such (field|parameter)|allowed values|must be '|leave it unset|cannot unmarshal"
    r"|not a supported|too many states",
    re.IGNORECASE,
)
_BEFORE = r"(?:invalid|illegal|wrong|range of|value (?:of|for))(?: parameter)?\W{1,4}"
_AFTER = r"[^.]{0,40}(?:must|should|may only|can only|enabled only|非法|不合法|不支持|无效|错误)"
"""Words before and after a parameter in a message that refuses it or its value."""
_EXCLUSIVE = re.compile(r"can(no|.)t both|not both|only one\b|mutually exclusive", re.IGNORECASE)
_VALUE = re.compile(
    r"json_schema|invalid (value|schema)|(supported|allowed) values|must be one of|input should be|\btype\b",
    re.IGNORECASE,
)
_FORMAT = re.compile(r"json[ _](schema|object|mode)|structured output|too many states", re.IGNORECASE)
_LENGTH = re.compile(
    r"context (length|window|size)|too (large|long|high|many)|maximum (context|length|number)|exceed|reduce"
    r"|at most \d+ (completion )?tokens",
    re.IGNORECASE,
)
_SYSTEM = re.compile(
    r"system (role|prompt|message|instruction)s?\b.*(not|un)|(developer|system) instruction"
    r"|roles? must alternate|only user(,| and| or) ?(model|assistant)|unexpected role.{0,12}system"
    r"|(role|messages).{0,40}(not|un)\w* .{0,20}.system|does not support.{0,20}system"
    r"|system role not supported|first message.{0,40}user",
    re.IGNORECASE | re.DOTALL,
)
_LIMIT = re.compile(
    r"(?:at most|max(?:imum)?(?: allowed| value)?(?: is| of)?|less than or equal to|<=|no more than"
    r"|between \d+ and|\[0, ?)\s*:?\s*(\d+)",
    re.IGNORECASE,
)


def read_refusal(status: int, error: Mapping[str, Any], body: Mapping[str, Any]) -> Refusal | None:
    """Return the part of a request that a response refuses, or `None` if it refuses none.

    Servers name it in `param`, in the `loc` of FastAPI's errors, or only in the message. A limit on the
    length that is too large for the context is not a refusal: the request itself does not fit.

    Args:
        status: HTTP status. 500 counts for chat templates, and if the message names a parameter.
        error: The error object.
        body: The request.
    """
    if status not in (400, 403, 404, 415, 422, 424, 500, 501):
        return None
    message = str(error.get("message") or "")
    named = _named(error, message)
    roles = {str(part.get("role")) for part in body.get("messages", ()) if isinstance(part, Mapping)}
    if "system" in roles and (_SYSTEM.search(message) or named.startswith("messages")):
        return Refusal("system")
    if _EXCLUSIVE.search(message) and all(name in body and name in message for name in SAMPLING):
        return Refusal("top_p")  # Claude accepts one of them, and top-p has its default
    code = f"{error.get('code')} {error.get('type')}"
    refuses = bool(_UNSUPPORTED.search(message)) or "unsupported" in code or "extra_forbidden" in code
    for parameter in _sent(body):
        if _is_refused(parameter, named, message, refuses):
            if parameter.startswith("max_") and _LENGTH.search(message):
                continue
            limit = _LIMIT.search(message)
            return Refusal(parameter, bool(_VALUE.search(message)), int(limit[1]) if limit else None)
    if not refuses:
        return None
    if "response_format" in body and _FORMAT.search(message):
        return Refusal("response_format", True)
    if "logprobs" in body and re.search(r"log[- ]?prob", message, re.IGNORECASE):
        limit = _LIMIT.search(message)
        return Refusal("logprobs", limit=int(limit[1]) if limit else None)
    return None


def _is_refused(parameter: str, named: str, message: str, refuses: bool) -> bool:
    """Return whether a message refuses a parameter.

    Args:
        parameter: A parameter of the request.
        named: Path of the refused field, or empty.
        message: The words of the server.
        refuses: Whether the message refuses something. If not, words around the parameter must do so. They
            do not refuse a length: its limit depends on the request.
    """
    word = rf"(?<![A-Za-z_]){re.escape(parameter)}(?![A-Za-z_])"
    if refuses:
        return named.split(".")[0] == parameter or bool(re.search(word, message))
    if parameter in LENGTH_PARAMETERS:
        return False
    return bool(re.search(f"{_BEFORE}{word}|{word}{_AFTER}", message, re.IGNORECASE))


def _sent(body: Mapping[str, Any]) -> list[str]:
    """Return the optional parameters of a request, those of this module first."""
    known = [name for name in OPTIONAL_PARAMETERS if name in body]
    return known + [name for name in body if name not in known and name not in REQUIRED]


def _named(error: Mapping[str, Any], message: str) -> str:
    """Return the path of the refused field, such as `messages.0.role`. Empty if it is not named."""
    named = error.get("param") or error.get("field")
    if isinstance(named, str) and named:
        return named.removeprefix("body.").replace("[", ".")
    found = re.search(r"['\"]?loc['\"]?: ?[(\[]['\"]body['\"], ?([^)\]]+)", message)
    return ".".join(re.findall(r"[\w-]+", found[1])) if found else ""
