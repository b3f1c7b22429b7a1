"""Requests and answers of OpenAI's interface, as far as a writer of networks needs it.

Pure: a body of JSON becomes :class:`Asked` or a :class:`Refusal`, and a text becomes a body.
"""

from __future__ import annotations

import json
import math
import secrets
import time
from dataclasses import dataclass
from typing import Any, NoReturn

OWNER = "llmatic-hpc"
"""``owned_by`` of the models of such a server, by which its clients know it."""

LARGEST_BODY = 1 << 20
"""Bytes of a request; more tokens than any context has."""

MOST_STOPS = 16

# Accepted because clients send them, as long as they ask for nothing.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1, None), "best_of": (1, None), "stream": (False, None), "echo": (False, None),
    "logprobs": (False, None, 0), "presence_penalty": (0, None), "frequency_penalty": (0, None),
    "stream_options": (None,), "suffix": (None, ""),
}  # fmt: skip
_COMMON = ("model", "max_tokens", "temperature", "top_p", "seed", "stop", "stop_at_class", "user")
_FIELDS = {
    "chat": {*_COMMON, *_NEUTRAL, "messages", "max_completion_tokens"},
    "completion": {*_COMMON, *_NEUTRAL, "prompt"},
}
_ROLES = ("system", "user", "assistant")


class Refusal(Exception):  # noqa: N818 (an answer, not a fault of ours)
    """An answer that is no completion, with what OpenAI's clients look at."""

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None,
        retry_after: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.status, self.param, self.code = status, param, code
        self.retry_after = retry_after
        """Seconds after which asking again makes sense; 0: none does."""

    def body(self) -> dict[str, Any]:
        """Return the body of the answer."""
        kinds = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
        other = "server_error" if self.status >= 500 else "invalid_request_error"
        error = {"message": str(self), "type": kinds.get(self.status, other)}
        return {"error": error | {"param": self.param, "code": self.code}}


@dataclass(frozen=True)
class Asked:
    """One request for one text."""

    form: str
    """``chat`` or ``completion``."""
    messages: tuple[dict[str, str], ...] = ()
    """The chat, where it is one."""
    prompt: str = ""
    """The text to continue, where it is a completion."""
    max_tokens: int | None = None
    """None: what the server is set to."""
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0
    stops: tuple[str, ...] = ()
    stop_at_class: bool = False
    """True: the text ends with the network that was asked for, as in-process."""


@dataclass(frozen=True)
class Written:
    """The text that answers a request."""

    text: str
    is_finished: bool
    """False where the limit of tokens cut it off."""
    prompt_tokens: int
    tokens: int


def parse(body: bytes, form: str, model: str) -> Asked:
    """Read the body of a request to the server of ``model``; raises :class:`Refusal`."""
    try:
        found = json.loads(body, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise Refusal(400, "the body is not valid JSON") from None
    if not isinstance(found, dict):
        raise Refusal(400, "the body must be a JSON object")
    for name, value in found.items():
        if name not in _FIELDS[form]:
            raise Refusal(400, f"unknown field {name[:100]!r}", param=name[:100], code="unknown")
        if name in _NEUTRAL and not any(value is one or value == one for one in _NEUTRAL[name]):
            _refuse(name, f"is not supported other than as {_NEUTRAL[name][0]!r}")
    wanted = found.get("model")
    if wanted != model:
        if not isinstance(wanted, str):
            _refuse("model", "must be a text")
        message = f"the model {wanted[:200]!r} is not here; {model!r} is"
        raise Refusal(404, message, param="model", code="model_not_found")
    limit = "max_completion_tokens" if found.get("max_completion_tokens") else "max_tokens"
    seed = _number(found, "seed", None, -(2**63), 2**64, whole=True)
    stops = found.get("stop") or []
    stops = [stops] if isinstance(stops, str) else stops
    if not isinstance(stops, list) or not all(isinstance(one, str) and one for one in stops):
        _refuse("stop", "must be a text or a list of texts")
    if len(stops) > MOST_STOPS or any(len(one) > 1000 for one in stops):
        _refuse("stop", f"must be {MOST_STOPS} texts at most, of 1,000 characters at most")
    if not isinstance(at_class := found.get("stop_at_class", False), bool):
        _refuse("stop_at_class", "must be true or false")
    most = _number(found, limit, None, 1, 10**9, whole=True)
    return Asked(
        form,
        messages=_messages(found.get("messages")) if form == "chat" else (),
        prompt=_prompt(found.get("prompt")) if form == "completion" else "",
        max_tokens=None if most is None else int(most),
        temperature=float(_number(found, "temperature", 1.0, 0.0, 100.0) or 0.0),
        top_p=float(_number(found, "top_p", 1.0, 1e-6, 1.0) or 1.0),
        seed=secrets.randbits(63) if seed is None else int(seed),
        stops=tuple(stops),
        stop_at_class=at_class,
    )


def _no_number(word: str) -> NoReturn:
    raise ValueError(word)


def _refuse(param: str, message: str) -> NoReturn:
    raise Refusal(400, f"{param} {message}", param=param)


def _number(
    found: dict[str, Any], name: str, default: float | None, low: float, high: float, *,
    whole: bool = False,
) -> float | None:  # fmt: skip
    value = found.get(name)
    if value is None:
        return default
    kinds = (int,) if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds):
        _refuse(name, "must be a whole number" if whole else "must be a number")
    if not (low <= value <= high) or (isinstance(value, float) and not math.isfinite(value)):
        _refuse(name, f"must be from {low:g} to {high:g}")
    return value


def _prompt(value: Any) -> str:
    if isinstance(value, list) and len(value) == 1:
        [value] = value
    if not isinstance(value, str) or not value:
        _refuse("prompt", "must be one text")
    return _encodable("prompt", value)


def _messages(value: Any) -> tuple[dict[str, str], ...]:
    if not isinstance(value, list) or not value:
        _refuse("messages", "must be a list of messages")
    found = []
    for message in value:
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, list):  # in parts, all of them text
            parts = [part.get("text") if isinstance(part, dict) else None for part in content]
            texts = [part for part in parts if isinstance(part, str)]
            content = "".join(texts) if len(texts) == len(parts) else None
        if not isinstance(content, str) or message.get("role") not in _ROLES:
            _refuse(
                "messages", f"must each have a role ({', '.join(_ROLES)}) and a text as content"
            )
        found.append({"role": message["role"], "content": _encodable("messages", content)})
    return tuple(found)


def _encodable(param: str, text: str) -> str:
    """Return the text; half a pair of surrogates is none, and tokenizers choke on it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        _refuse(param, "holds characters that are none")
    return text


def answer(asked: Asked, written: Written, model: str) -> dict[str, Any]:
    """Return the body that answers a request."""
    is_chat = asked.form == "chat"
    text = {"message": {"role": "assistant", "content": written.text}}
    choice = {"index": 0, "logprobs": None, **(text if is_chat else {"text": written.text})}
    reason = "stop" if written.is_finished else "length"
    return {
        "id": f"{'chatcmpl' if is_chat else 'cmpl'}-{secrets.token_hex(12)}",
        "object": "chat.completion" if is_chat else "text_completion",
        "created": int(time.time()),
        "model": model,
        "choices": [choice | {"finish_reason": reason}],
        "usage": {
            "prompt_tokens": written.prompt_tokens,
            "completion_tokens": written.tokens,
            "total_tokens": written.prompt_tokens + written.tokens,
        },
    }
