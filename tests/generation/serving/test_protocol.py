"""Requests of OpenAI's interface: what is taken, and what is refused with which words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llmatic_hpc.generation.serving.protocol import (
    Asked,
    Refusal,
    Written,
    answer,
    parse,
)

TALK = [{"role": "user", "content": "Hello"}]


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "small", **fields}).encode()


def test_what_is_asked() -> None:
    """Every field arrives; what is left out has OpenAI's default, and a seed of its own."""
    talk = [{"role": "system", "content": "Short."},
            {"role": "user", "content": [{"type": "text", "text": "He"}, {"text": "llo"}]},
    ]  # fmt: skip
    chat = parse(
        body(messages=talk, temperature=0.25, top_p=0.9, max_completion_tokens=7, seed=2**62,
             stop=["a", "b"], stop_at_class=True, n=1, stream=False, user="me"),
        "chat", "small",
    )  # fmt: skip
    assert chat == Asked(
        "chat", messages=({"role": "system", "content": "Short."}, TALK[0]), max_tokens=7,
        temperature=0.25, top_p=0.9, seed=2**62, stops=("a", "b"), stop_at_class=True,
    )  # fmt: skip
    one, other = (parse(body(prompt=["x"], stop="\n"), "completion", "small") for _ in range(2))
    assert (one.prompt, one.stops, one.temperature, one.max_tokens) == ("x", ("\n",), 1.0, None)
    assert one.seed != other.seed
    assert parse(body(prompt="x", temperature=0), "completion", "small").temperature == 0.0


@pytest.mark.parametrize(
    ("form", "sent", "words"),
    [
        ("chat", b"{", "not valid JSON"),
        ("chat", b"[" * 100_000, "not valid JSON"),
        ("chat", b"\xff\xfe", "not valid JSON"),
        ("chat", b'{"temperature": NaN}', "not valid JSON"),
        ("chat", b"[1]", "must be a JSON object"),
        ("chat", body(messages=TALK, tools=[]), "unknown field 'tools'"),
        ("chat", body(messages=TALK, prompt="x"), "unknown field 'prompt'"),
        ("chat", body(messages=TALK, n=2), "n is not supported other than as 1"),
        ("chat", body(messages=TALK, stream=True), "stream is not supported"),
        ("chat", body(messages=[]), "messages must be a list"),
        ("chat", body(messages=[{"role": "robot", "content": "x"}]), "must each have a role"),
        ("chat", body(messages=[{"role": "user", "content": [{"image": 1}]}]), "a text as content"),
        ("chat", body(messages=[["user"]]), "must each have a role"),
        ("chat", body(messages=[{"role": "user", "content": "\ud800"}]), "that are none"),
        ("completion", body(), "prompt must be one text"),
        ("completion", body(prompt=["a", "b"]), "prompt must be one text"),
        ("completion", body(prompt=[1, 2]), "prompt must be one text"),
        ("completion", body(prompt="x", temperature="hot"), "temperature must be a number"),
        ("completion", body(prompt="x", temperature=-1), "temperature must be from 0 to 100"),
        ("completion", body(prompt="x", temperature=True), "temperature must be a number"),
        ("completion", body(prompt="x", top_p=0), "top_p must be from"),
        ("completion", body(prompt="x", max_tokens=0), "max_tokens must be from 1"),
        ("completion", body(prompt="x", max_tokens=1.5), "max_tokens must be a whole number"),
        ("completion", body(prompt="x", seed=2**70), "seed must be from"),
        ("completion", body(prompt="x", stop=[""]), "stop must be a text or a list"),
        ("completion", body(prompt="x", stop=["a"] * 17), "16 texts at most"),
        ("completion", body(prompt="x", stop_at_class=1), "true or false"),
        ("completion", body(prompt="x", model=3), "model must be a text"),
    ],
)  # fmt: skip
def test_what_is_refused(form: str, sent: bytes, words: str) -> None:
    """With 400 and the field's name."""
    with pytest.raises(Refusal) as caught:
        parse(sent, form, "small")
    assert caught.value.status == 400
    assert words in str(caught.value)
    error = caught.value.body()["error"]
    assert error["type"] == "invalid_request_error"
    assert set(error) == {"message", "type", "param", "code"}


def test_another_model() -> None:
    """404, and the name of the one that is here."""
    with pytest.raises(Refusal, match="'large' is not here; 'small' is") as caught:
        parse(body(model="large", prompt="x"), "completion", "small")
    assert (caught.value.status, caught.value.code) == (404, "model_not_found")


@pytest.mark.parametrize(("finished", "reason"), [(True, "stop"), (False, "length")])
def test_answers(finished: bool, reason: str) -> None:
    """Text, reason and tokens, in the shape of each form."""
    written = Written("words", finished, 11, 3)
    chat = answer(Asked("chat"), written, "small")
    [choice] = chat["choices"]
    assert choice["message"] == {"role": "assistant", "content": "words"}
    assert (chat["object"], choice["finish_reason"]) == ("chat.completion", reason)
    text = answer(Asked("completion"), written, "small")
    assert text["choices"][0]["text"] == "words"
    assert text["usage"] == {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14}
