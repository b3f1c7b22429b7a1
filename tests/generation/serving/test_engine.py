"""The engine behind the server: texts as in-process, whatever the clients do; and a real model."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from llmatic_hpc.config import GeneratorSettings
from llmatic_hpc.generation.endpoint import Endpoint
from llmatic_hpc.generation.language_model.batch import Batch
from llmatic_hpc.generation.language_model.huggingface import HuggingFace
from llmatic_hpc.generation.language_model.sampling import Row
from llmatic_hpc.generation.serving.address import Address
from llmatic_hpc.generation.serving.engine import Engine, Ticket
from llmatic_hpc.generation.serving.protocol import Asked, Refusal
from llmatic_hpc.generation.serving.served import Served
from llmatic_hpc.generation.serving.server import Server
from llmatic_hpc.types import Completion, Problem, Request

from .stub import TOKEN

Settings = Callable[..., GeneratorSettings]
Ask = Callable[..., Request]


@pytest.fixture
def start() -> Iterator[Callable[..., Engine]]:
    """Engines that are stopped afterwards."""
    made: list[Engine] = []

    def engine(settings: GeneratorSettings, **options: Any) -> Engine:
        made.append(Engine(Served(settings), **{"most_waiting": 1000} | options))
        return made[-1]

    yield engine
    for one in made:
        one.stop(0)


def text_of(ticket: Ticket) -> str:
    assert ticket.done.wait(60)
    assert ticket.written is not None, ticket.refusal
    return ticket.written.text


class Steps:
    """Lets a batch go on token by token, as a test wants it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go, self.rows = threading.Semaphore(0), list[list[int]]()
        self.stepped = threading.Semaphore(0)
        step = Batch.step

        def one(batch: Batch) -> list[Row]:
            assert self.go.acquire(timeout=60)
            self.rows.append(sorted(row.candidate for row in batch.rows))
            try:
                return step(batch)
            finally:
                self.stepped.release()

        monkeypatch.setattr(Batch, "step", one)

    def make(self, count: int) -> None:
        for _ in range(count):
            self.go.release()
            assert self.stepped.acquire(timeout=60)

    def finish(self) -> None:
        self.go.release(10_000)


PROMPT = "import torch\nimport torch.nn as nn\n"


def asked(number: int, **changes: Any) -> Asked:
    values = {"prompt": PROMPT, "max_tokens": 40, "temperature": 0.7, "seed": number}
    return Asked("completion", **values | changes)


def test_a_request_joins_and_leaves(
    settings: Settings, start: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While others are written; whom nobody wants any more leaves before the next token, and the
    texts are those of each alone."""
    engine = start(settings())
    alone = [text_of(engine.submit(asked(n, top_p=1 - n / 10))) for n in range(4)]
    steps = Steps(monkeypatch)
    first, unwanted = engine.submit(asked(0)), engine.submit(asked(1))
    steps.make(5)
    others = [engine.submit(asked(n, top_p=1 - n / 10)) for n in (1, 2, 3)]
    engine.cancel(unwanted)
    steps.finish()
    assert [text_of(ticket) for ticket in (first, *others)] == alone
    numbers = [ticket.number for ticket in (first, unwanted, *others)]
    assert steps.rows[0] in ([numbers[0]], numbers[:2])
    assert [numbers[0], *numbers[2:]] in steps.rows
    assert max(n for n, rows in enumerate(steps.rows) if numbers[1] in rows) <= 6
    assert engine.counts == {"running": 0, "waiting": 0}


def test_a_place_for_each(
    settings: Settings, start: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more at a time than ``generator.batch``, no more in the queue than may wait, and a
    place in the queue is free with its client."""
    engine = start(settings(batch=2), most_waiting=2)
    steps = Steps(monkeypatch)
    running = [engine.submit(asked(0)), engine.submit(asked(1))]
    steps.make(3)
    waiting = [engine.submit(asked(2)), engine.submit(asked(3))]
    assert engine.counts == {"running": 2, "waiting": 2}
    with pytest.raises(Refusal, match="2 requests are waiting already") as caught:
        engine.submit(asked(4))
    assert (caught.value.status, caught.value.retry_after) == (429, 5)
    engine.cancel(waiting[0])
    last = engine.submit(asked(4))
    steps.finish()
    assert all(text_of(ticket) for ticket in (*running, waiting[1], last))
    assert max(map(len, steps.rows)) == 2
    assert not waiting[0].done.is_set()


def test_what_one_asks_is_no_matter_of_the_others(
    settings: Settings, start: Callable[..., Engine], tiny_chat_model: Path
) -> None:
    """Too long a prompt, none, and a chat that the template does not know are refused, each with
    its reason; who asked beside them is answered."""
    engine = start(settings(model=str(tiny_chat_model)))
    engine._model._tokenizer.chat_template = "{{ raise_exception('no such talk') }}"
    talk = ({"role": "user", "content": "Hello"},)
    tickets = [
        engine.submit(asked(0)), engine.submit(asked(1, prompt="x = 1\n" * 600)),
        engine.submit(Asked("chat", messages=talk)), engine.submit(asked(2, prompt="")),
    ]  # fmt: skip
    assert text_of(tickets[0])
    said = []
    for ticket in tickets[1:]:
        assert ticket.done.wait(60)
        assert ticket.refusal is not None
        assert ticket.refusal.status == 400
        said.append(str(ticket.refusal))
    assert "does not fit the context" in said[0]
    assert tickets[1].refusal.code == "context_length_exceeded"  # type: ignore[union-attr]
    assert "no such talk" in said[1]
    assert "is empty" in said[2]


def test_short_memory_halves_the_batch(
    settings: Settings, start: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everybody gets the text that he would have got; a single row for which there is none ends
    with an answer, and so does what a model cannot write."""
    engine = start(settings())
    plain = [text_of(engine.submit(asked(n))) for n in range(4)]
    step, most, broken = Batch.step, [2], list[Exception]()

    def scarce(batch: Batch) -> list[Row]:
        if broken:
            raise broken[0]
        if len(batch.rows) > most[0]:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return step(batch)

    monkeypatch.setattr(Batch, "step", scarce)
    assert [text_of(t) for t in [engine.submit(asked(n)) for n in range(4)]] == plain
    most[0] = 0
    for error, words in (
        (None, "the model failed"), (FloatingPointError("NaN"), "cannot be sampled from: NaN"),
        (ValueError("?"), "the model failed"),
    ):  # fmt: skip
        broken[:] = [error] if error else []
        ticket = engine.submit(asked(0))
        assert ticket.done.wait(60)
        assert words in str(ticket.refusal)
    most[0], broken[:] = 9, []
    assert text_of(engine.submit(asked(1))) == plain[1]


def test_a_model_that_is_lost(
    settings: Settings, start: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After three failures in a row nobody waits for it any longer, and its process is told."""
    lost = threading.Event()
    engine = start(settings(batch=1), on_loss=lost.set)
    engine._may_be_lost = True

    def broken(batch: Batch) -> list[Row]:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(Batch, "step", broken)
    for _ in range(3):
        ticket = engine.submit(asked(0))
        assert ticket.done.wait(60)
        assert ticket.refusal is not None
        assert ticket.refusal.status == 500
    assert lost.wait(60)
    assert engine.is_lost
    with pytest.raises(Refusal, match="about to end"):
        engine.submit(asked(1))


def test_there_is_memory_for_all_that_join(settings: Settings) -> None:
    """Rows are counted by the longest of them, and by what those have that are there."""
    model = Served(settings())
    rows = [model.row(asked(n, max_tokens=100), n) for n in range(6)]
    each = 2 * 2 * 64 * 4 * (len(rows[0].prompt) + 100 + 128)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "llmatic_hpc.generation.language_model.device.memory_left",
            lambda where: int(4.5 * each / 0.95),
        )
        assert model.fit([], rows, None) == 4
        assert model.fit(rows[:3], rows[3:], None) == 1
        assert model.fit([], [replace(rows[0], limit=10_000), *rows], None) == 1
        assert model.fit(rows[:5], rows[5:], None) == 0


def test_an_end_in_good_order(
    settings: Settings, start: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A running request has its time, a waiting one is told to come again, no new one is taken."""
    engine = start(settings(batch=1))
    steps = Steps(monkeypatch)
    running, waiting = engine.submit(asked(0)), engine.submit(asked(1))
    steps.make(2)
    steps.finish()
    engine.stop(60)
    assert text_of(running)
    assert waiting.refusal is not None
    assert (waiting.refusal.status, waiting.refusal.code) == (503, "stopping")
    with pytest.raises(Refusal, match="about to end"):
        engine.submit(asked(2))


def test_an_end_without_time(
    settings: Settings, start: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that is not done by then is told to come again, too."""
    engine = start(settings())
    steps = Steps(monkeypatch)
    running = engine.submit(asked(0, max_tokens=400))
    steps.make(2)
    steps.go.release()
    engine.stop(0)
    assert running.refusal is not None
    assert running.refusal.status == 503


# --- the same texts as in-process ----------------------------------------------------------------


def same_texts(
    wish: GeneratorSettings,
    problem: Problem,
    requests: Sequence[Request],
    folder: Path,
    clients: int,
) -> list[Completion]:
    """Texts that so many coordinators at once get from one server, which one must get alone."""
    alone = HuggingFace(wish, problem)
    plain = {c.candidate: c for c in alone.generate(requests)}
    alone.close()
    engine = Engine(Served(wish), most_waiting=1000)
    server = Server("127.0.0.1", 0, engine, TOKEN)
    file = folder / "serve.json"
    Address(server.url, TOKEN, 1, "here", wish.model).write(file)
    server.answer()
    client = replace(wish, kind="endpoint", url=str(file), concurrency=4)

    def coordinator(part: int) -> list[Completion]:
        generator = Endpoint(client, problem)
        try:
            assert generator.served["digest"].startswith("sha256:")
            return list(generator.generate(requests[part:] + requests[:part]))
        finally:
            generator.close()

    try:
        with ThreadPoolExecutor(clients) as pool:
            found = list(pool.map(coordinator, range(clients)))
    finally:
        server.refuse_connections()
        engine.stop(0)
    for completions in found:
        assert len(completions) == len(requests)
        for one in completions:
            expected = replace(plain[one.candidate], seconds=one.seconds)
            if expected.failure:
                assert "does not fit the context" in one.failure
            else:
                assert one == expected
    return found[0]


@pytest.mark.parametrize("chat", [False, True])
def test_three_coordinators_get_what_one_gets(
    settings: Settings, problem: Problem, ask: Ask, tmp_path: Path, chat: bool,
    tiny_model: Path, tiny_chat_model: Path,
) -> None:  # fmt: skip
    """Texts, tokens and ends, of either form, from parents of different lengths and seeds of 63
    bits, one of them too long; six at a time in the server."""
    model = str(tiny_chat_model if chat else tiny_model)
    wish = settings(model=model, max_new_tokens=50, batch=6, top_p=0.9)
    requests = [
        ask(n, parents=("# more\n" * 9 * (n % 3) + problem.initial_source,),
            temperature=0.5 + 0.2 * n, seed=2**62 + n)
        for n in range(8)
    ]  # fmt: skip
    requests.append(ask(8, parents=("x = 1\n" * 600,)))
    found = same_texts(wish, problem, requests, tmp_path, clients=3)
    assert len({c.text for c in found}) > 3


@pytest.mark.slow
def test_three_coordinators_and_a_real_model(
    test_model: Path, problem: Problem, ask: Ask, tmp_path: Path
) -> None:
    """In single precision, chats of real prompts: the texts of generator.kind = "huggingface"."""
    wish = GeneratorSettings(
        model=str(test_model), dtype="float32", max_new_tokens=96, threads=torch.get_num_threads()
    )
    requests = [ask(n, temperature=0.4 + 0.1 * n) for n in range(5)]
    found = same_texts(wish, problem, requests, tmp_path, clients=3)
    assert all(c.form == "chat" and "class" in c.text for c in found)
