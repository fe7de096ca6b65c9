"""Meaning of a server's errors: a refusal of the model, a used-up quota, a wrong address, or bad luck.

Servers use the same status for different things. A 429 may be a rate limit or an account without credit, a
403 may be a wrong key or a moderated prompt. The error object decides.
"""

from __future__ import annotations

import errno
import json
import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from tasks.models.protocol import FailureKind

MODERATION_CODES = (
    "content_filter",
    "content_policy_violation",
    "data_inspection_failed",
    "datainspectionfailed",
    "responsibleaipolicyviolation",
    "moderation_blocked",
    "invalid_prompt",
    "1301",
)
_MODERATION = re.compile(
    r"content exists risk|data_?inspection_?failed|may contain inappropriate content"
    r"|content management policy"
    r"|flagged (for|by|as)|requires moderation|moderation|content (policy|filter)|prohibited content"
    r"|responsible ai|safety (system|policy|filter)",
    re.IGNORECASE,
)
QUOTA_CODES = (
    "insufficient_quota",
    "insufficient_user_quota",
    "insufficient_balance",
    "insufficient_credits",
    "billing_hard_limit_reached",
    "billing_not_active",
    "quota_exceeded",
    "payment_required",
    "1113",
)
_QUOTA = re.compile(
    r"insufficient[ _](balance|credits?|quota|funds)|credit balance|(out of|no|more|purchase|add) credits"
    r"|billing (hard )?limit|billing_not_active|per_?day|arrears|overdue|prepaid|limit: 0\b"
    r"|(monthly|daily) (quota|limit|usage)|used up .{0,20}(quota|credits)|exceeded your monthly",
    re.IGNORECASE,
)
_PER_MINUTE = re.compile(r"per_?(minute|second)", re.IGNORECASE)
_NO_MODEL = re.compile(
    r"model[^.]{0,80}(not found|not exist|does ?n.t exist|no longer|is not available|not a valid|is invalid"
    r"|deprecated|decommissioned|unknown)"
    r"|(invalid|unknown|no such|not a valid) model|model_not_found|no endpoints found",
    re.IGNORECASE,
)
SMALL_BODY = 16_000
"""Bytes. A server that finds a smaller request too large cannot be used at all."""


def error_object(payload: Any) -> dict[str, Any]:
    """Return the error object of a response, however the server wraps it. Empty if there is none.

    OpenAI wraps it in `error`, Google in a list, FastAPI in `detail` (a text or a list of problems with their
    `loc`), others give `message` or `errors`.
    """
    if isinstance(payload, list):
        payload = payload[0] if payload else {}
    if not isinstance(payload, dict):
        return {"message": payload} if isinstance(payload, str) else {}
    error = payload.get("error") or payload.get("detail") or payload.get("errors") or payload
    if isinstance(error, list):
        return _of_details(error)
    if not isinstance(error, dict):
        return {**payload, "message": str(error)}
    return _with_inner(error)


def _with_inner(error: dict[str, Any]) -> dict[str, Any]:
    """Return an error with the error of a server behind it: a gateway may quote that as JSON."""
    metadata = error.get("metadata")
    quoted = metadata.get("raw") if isinstance(metadata, Mapping) else None
    for part in (error.get("message"), quoted):
        inner = _parsed(part)
        if isinstance(inner, (dict, list)):
            found = error_object(inner)
            if found.get("message"):
                return {**error, **{name: value for name, value in found.items() if value is not None}}
    return error


def _parsed(part: Any) -> Any:
    if not isinstance(part, str) or not part.lstrip().startswith(("{", "[")):
        return part
    try:
        return json.loads(part)
    except (ValueError, RecursionError):
        return None


def _of_details(details: list[Any]) -> dict[str, Any]:
    """Return FastAPI's list of problems as an error object."""
    problems = [problem for problem in details if isinstance(problem, dict)]
    if not problems:
        return {"message": "; ".join(map(str, details))}
    first = problems[0]
    path = [str(part) for part in first.get("loc") or () if part != "body"]
    texts = [str(problem.get("msg") or problem.get("message") or "") for problem in problems]
    message = "; ".join(filter(None, texts))
    return {
        "message": f"{'.'.join(path)}: {message}" if path else message,
        "param": ".".join(path),
        "type": first.get("type"),
    }


def is_moderation(status: int, error: Mapping[str, Any]) -> bool:
    """Return whether the server refused the content of the prompt or the answer, and not the call."""
    if status not in (200, 400, 403, 422, 451, 500, 502):
        return False
    inner = error.get("innererror")
    codes = {str(part.get(key)).lower() for part in (error, inner) if isinstance(part, Mapping)
             for key in ("code", "type")}  # fmt: skip
    if codes & set(MODERATION_CODES):
        return True
    metadata = error.get("metadata")
    if isinstance(metadata, Mapping) and (metadata.get("reasons") or metadata.get("flagged_input")):
        return True
    return status in (400, 403, 451) and bool(_MODERATION.search(str(error.get("message") or "")))


def is_quota(status: int, error: Mapping[str, Any]) -> bool:
    """Return whether the account has no credit or quota left, so that waiting does not help."""
    if status == 402 or {str(error.get("code")), str(error.get("type"))} & set(QUOTA_CODES):
        return True
    if status not in (400, 403, 429):
        return False
    text = json.dumps(error, default=str)
    if _PER_MINUTE.search(text) and not re.search(r"per_?day", text, re.IGNORECASE):
        return False
    if re.search(r"requests per day|tokens per day|\bRPD\b|\bTPD\b", text) and "try again in" in text:
        return False  # it names a time, which may be short
    return bool(_QUOTA.search(text) or re.search(r"requests per\s+day", text, re.IGNORECASE))


def kind_of(status: int, error: Mapping[str, Any]) -> FailureKind:
    """Return the kind of failure of an error response."""
    if is_quota(status, error):
        return "quota"
    if status in (401, 403):
        return "unauthorized"
    if status == 408:
        return "timeout"
    if status in (425, 429):
        return "rate_limit"
    return "server" if status >= 500 else "bad_request"


def stops_all(status: int, error: Mapping[str, Any], body_size: int) -> bool:
    """Return whether every other request to this model would be refused as well."""
    if status in (401, 402, 403, 404, 405, 410) or 300 <= status < 400 or is_quota(status, error):
        return True
    if status == 413:
        return body_size < SMALL_BODY
    return status == 400 and is_unknown_model(error)


def is_unknown_model(error: Mapping[str, Any]) -> bool:
    """Return whether the server does not know the model."""
    code = f"{error.get('code')} {error.get('type')}"
    return "model_not_found" in code or bool(_NO_MODEL.search(str(error.get("message") or "")))


def retry_delay_s(error: Mapping[str, Any]) -> float | None:
    """Return the wait that Google's servers name in the body in place of `Retry-After`."""
    found = re.search(
        r'"retryDelay": "(\d{1,9}(?:\.\d{1,9})?)s"', json.dumps(error.get("details"), default=str)
    )
    return float(found[1]) if found else None


def likely_fix(
    status: int, error: Mapping[str, Any], *, endpoint: str, model: str, key_variable: str | None
) -> str | None:
    """Return the next step that most likely repairs a failure that stops a stage."""
    message = str(error.get("message") or "")
    if is_quota(status, error):
        return "add credit to the account, or wait until its quota is renewed"
    if status in (401, 403):
        variable = f"check {key_variable}" if key_variable else "name the key's variable under `api_keys`"
        return f"{variable}; the key must be valid for {urlsplit(endpoint).netloc} and for this model"
    if status == 413:
        return "raise the limit on the size of requests of the server, or of the proxy before it"
    if 300 <= status < 400:
        return "name the address that it redirects to as the endpoint, if you trust it"
    if is_unknown_model(error) or status == 404:
        return _fix_of_404(message, endpoint, model)
    return None


def _fix_of_404(message: str, endpoint: str, model: str) -> str:
    parts = urlsplit(endpoint)
    if parts.path.rstrip("/").endswith(("/completions", "/chat")):
        base = re.sub(r"(/chat)?/completions$|/chat$", "", endpoint.rstrip("/"))
        return f"name the base address of the API: {base}"
    if parts.port == 11434 or "pull" in message or "ollama" in message.lower():
        return f"download the model first: `ollama pull {model}`"
    if re.search("model", message, re.IGNORECASE):
        return f"check the name {model!r}: `curl {endpoint}/models` lists the models of this server"
    return f"check the endpoint {endpoint}: the base address of most servers ends with /v1"


# Connections

NOT_REACHED = (
    errno.ECONNREFUSED,
    errno.ENETUNREACH,
    errno.EHOSTUNREACH,
    errno.ENETDOWN,
    errno.EHOSTDOWN,
    errno.EADDRNOTAVAIL,
)
UNKNOWN_HOST = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and its causes, the original last."""
    current: BaseException | None = error
    while current is not None:
        yield current
        wrapped = getattr(current, "os_error", None)
        if isinstance(wrapped, BaseException) and wrapped is not current:
            yield wrapped
        current = current.__cause__


def is_before_request(error: BaseException) -> bool:
    """Return whether the connection failed before the request was written: nothing was asked."""
    for cause in causes(error):
        if isinstance(cause, (ConnectionRefusedError, socket.gaierror, ssl.SSLCertVerificationError)):
            return True
        if isinstance(cause, OSError) and cause.errno in NOT_REACHED:
            return True
        if type(cause).__name__ in BEFORE_REQUEST:
            return True
    return False


BEFORE_REQUEST = (
    "ClientConnectorError",
    "ClientConnectorSSLError",
    "ClientConnectorCertificateError",
    "ClientConnectorDNSError",
    "ClientProxyConnectionError",
    "ConnectionTimeoutError",
    "ConnectError",
    "ConnectTimeout",
)
"""Classes of the HTTP clients for errors while connecting, TLS included."""


def connection_fix(error: BaseException, endpoint: str) -> str | None:
    """Return the next step for a connection that will fail again, or `None` if the cause may pass."""
    host = urlsplit(endpoint).hostname
    for cause in causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return (
                "the certificate is not trusted: set SSL_CERT_FILE to the file with the certificate of its "
                "authority"
            )
        if isinstance(cause, ssl.SSLError) and re.search(
            r"WRONG_VERSION|HTTP_REQUEST|RECORD_LAYER|UNKNOWN_PROTOCOL", str(cause)
        ):
            return "the server does not speak TLS: write http:// in place of https:// in the endpoint"
        if isinstance(cause, socket.gaierror) and cause.errno in UNKNOWN_HOST:
            return f"check the host {host!r} in the endpoint: no such host is known"
    return None
