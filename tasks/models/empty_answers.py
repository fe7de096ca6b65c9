"""Answers without content are failures: nothing can be read from them, so they must not count as answers."""

from __future__ import annotations

from tasks.models.protocol import Completion, FailedAttempt
from tasks.text.answer_text import remove_reasoning

RAISE_LIMIT = (
    "the length limit was used up before the answer began: raise the model's `max_tokens`, or lower its "
    "reasoning effort"
)
CHECK_MODEL = (
    "try the model with `counterfoil models MODEL --probe`, and check its chat template and its reasoning "
    "settings"
)


def has_content(text: str) -> bool:
    """Return whether anything is left of an answer without its reasoning."""
    if not text or text.isspace():
        return False
    return bool(remove_reasoning(text))


def require_content(completion: Completion, detail: str = "") -> Completion | FailedAttempt:
    """Return the completion, or the failure that it is if it carries no content.

    Refusals and scored texts are complete without content. A model that reached the length limit before its
    answer began would do so again, so that failure is final. Any other empty answer may be followed by a
    better one.

    Args:
        completion: An answer as the server gave it.
        detail: Other content of the answer, for the message.
    """
    if completion.refusal or completion.prompt_logprobs or has_content(completion.text):
        return completion
    usage = (completion.tokens_in, completion.tokens_out, completion.tokens_in_cached)
    held = detail or ("it contains only reasoning" if completion.text.strip() else "it is empty")
    if completion.finish_reason == "length":
        message = f"the answer has no content ({held}): its length limit was reached before it began"
        return FailedAttempt("truncated_reasoning", message, final=True, hint=RAISE_LIMIT, usage=usage)
    reason = f", finish reason {completion.finish_reason!r}" if completion.finish_reason else ""
    return FailedAttempt(
        "empty", f"the answer has no content ({held}{reason})", hint=CHECK_MODEL, usage=usage
    )
