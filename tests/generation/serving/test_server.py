"""HTTP in front of a writer: what clients get, and what none of them can do to the others."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest

from llmatic_hpc.errors import GeneratorError
from llmatic_hpc.generation.serving import server as serving
from llmatic_hpc.generation.serving.protocol import LARGEST_BODY
from llmatic_hpc.generation.serving.server import Server

from .stub import MODEL, TOKEN, Client, Stub


@contextlib.contextmanager
def served(stub: Stub) -> Iterator[Server]:
    server = Server("127.0.0.1", 0, stub, TOKEN)
    server.answer()
    try:
        yield server
    finally:
        server.refuse_connections()


def raw(server: Server) -> socket.socket:
    at = urlsplit(server.url)
    return socket.create_connection((at.hostname, at.port), timeout=10)


def test_answers_on_one_connection() -> None:
    """Both forms, the list of models and the state, one after the other."""
    stub = Stub()
    with served(stub) as server:
        client = Client(server)
        status, found, _ = client.complete(seed=5)
        assert (status, found["choices"][0]["text"]) == (200, "words")
        assert stub.tickets[0].asked.seed == 5
        talk = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]}
        status, found, _ = client.ask("/v1/chat/completions", talk)
        assert found["choices"][0]["message"]["content"] == "words"
        status, found, _ = client.ask("/v1/models")
        assert found["data"][0]["digest"] == "sha256:1"
        assert client.ask(f"/v1/models/{MODEL}")[1]["id"] == MODEL
        assert client.ask("/health")[1] == {"status": "ok", "running": 0, "waiting": 0}
        assert client.ask("/v1/nothing")[0] == 404
        assert client.ask("/v1/nothing", {})[0] == 404


@pytest.mark.parametrize("token", ["", "wrong", TOKEN[:-1], "ä"])
def test_a_token_that_is_none(token: str) -> None:
    """401 in OpenAI's shape, nothing is written; the state is told to everybody."""
    stub = Stub()
    with served(stub) as server:
        client = Client(server, token.encode().decode("latin-1"))
        for path, body in (("/v1/models", None), ("/v1/completions", {"model": MODEL})):
            status, found, _ = client.ask(path, body)
            assert (status, found["error"]["code"]) == (401, "invalid_api_key")
            assert TOKEN not in json.dumps(found)
        assert client.ask("/health")[0] == 200
    assert not stub.tickets


def test_nothing_ends_the_server() -> None:
    """Bytes that are no request, bodies that are too large or cut off, headers without end: each
    has its answer or its end, and the next client is served."""
    with served(Stub()) as server:
        for sent, words in (
            (b"\x16\x03\x01 not HTTP\r\n\r\n", b" 400 "),
            (b"BREW /pot HTTP/1.1\r\n\r\n", b" 501 "),
            (b"GET /health HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n", b" 431 "),
            (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", b" 414 "),
            (b"POST /v1/completions HTTP/1.1\r\nAuthorization: Bearer " + TOKEN.encode()
             + b"\r\nContent-Length: many\r\n\r\n", b" 400 "),
            (b"POST /v1/completions HTTP/1.1\r\nAuthorization: Bearer " + TOKEN.encode()
             + b"\r\nTransfer-Encoding: chunked\r\n\r\n", b" 411 "),
        ):  # fmt: skip
            with raw(server) as connection:
                connection.sendall(sent)
                with connection.makefile("rb") as answer:
                    assert words in answer.readline()
        with raw(server) as connection:
            connection.sendall(b"POST /v1/completions HTTP/1.1\r\nContent-Length: 99\r\n\r\n{")
        client = Client(server)
        status, found, headers = client.ask("/v1/completions", b" " * (LARGEST_BODY + 1))
        assert (status, headers["Connection"]) == (413, "close")
        assert "1,048,577" in found["error"]["message"]
        assert client.complete()[0] == 200
        assert client.ask("/v1/completions", b"{")[0] == 400
        assert client.complete()[0] == 200


def test_a_slow_head_has_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that drop in one by one do not hold a connection for longer than a request may take."""
    monkeypatch.setattr(serving, "REQUEST_SECONDS", 0.3)
    with served(Stub()) as server, raw(server) as connection:
        began = time.monotonic()
        connection.sendall(b"GET /health HTTP/1.1\r\n")
        with contextlib.suppress(OSError):
            while time.monotonic() - began < 5:
                connection.sendall(b"X")
                connection.settimeout(0.05)
                with contextlib.suppress(TimeoutError):
                    if not connection.recv(1):
                        break
        assert time.monotonic() - began < 3


def test_a_full_queue() -> None:
    """429 and when to come back, while those that wait are kept."""
    stub = Stub(answers=False, most=1)
    with served(stub) as server, ThreadPoolExecutor() as pool:
        first = pool.submit(Client(server).complete)
        assert stub.arrived.acquire(timeout=5)
        status, found, headers = Client(server).complete()
        assert (status, headers["Retry-After"]) == (429, "1")
        assert found["error"]["code"] == "queue_full"
        stub.answer(stub.tickets[0])
        assert first.result()[0] == 200


def test_a_client_that_vanishes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its request is cancelled, long before it would be done."""
    monkeypatch.setattr(serving, "LOOK_SECONDS", 0.02)
    stub = Stub(answers=False)
    with served(stub) as server:
        client = Client(server)
        client.connection.request(
            "POST", "/v1/completions", json.dumps({"model": MODEL, "prompt": "x"}), client.headers
        )
        assert stub.arrived.acquire(timeout=5)
        assert not stub.cancelled.is_set()
        client.connection.close()
        assert stub.cancelled.wait(5)


def test_too_many_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """One too many is closed at once; a place that is free again is taken again."""
    monkeypatch.setattr(serving, "MOST_CONNECTIONS", 2)
    with served(Stub()) as server:
        first, second = raw(server), raw(server)
        with raw(server) as third:
            assert third.recv(1) == b""
        first.close()
        second.close()
        assert _eventually(lambda: Client(server).ask("/health")[0] == 200)


def _eventually(check: object, seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            if check():  # type: ignore[operator]
                return True
        threading.Event().wait(0.01)
    return False


def test_the_end_waits_for_answers() -> None:
    """No new connection; who has asked before still hears."""
    stub = Stub(answers=False)
    with ThreadPoolExecutor() as pool:
        server = Server("127.0.0.1", 0, stub, TOKEN)
        server.answer()
        asked = pool.submit(Client(server).complete)
        assert stub.arrived.acquire(timeout=5)
        server.refuse_connections()
        with pytest.raises(OSError):
            raw(server)
        stub.answer(stub.tickets[0])
        server.wait_answered(5)
        assert asked.result()[0] == 200


def test_the_address_for_other_machines() -> None:
    """All addresses of a machine are known by its name, any other as it was given."""
    server = Server("0.0.0.0", 0, Stub(), TOKEN)
    server.server_close()
    assert server.url == f"http://{socket.gethostname()}:{server.server_address[1]}/v1"
    with served(Stub()) as other:
        assert other.url == f"http://127.0.0.1:{other.server_address[1]}/v1"


def test_an_address_that_is_taken() -> None:
    """One line, and which options choose another."""
    with served(Stub()) as server, pytest.raises(GeneratorError, match=r"in use.*--port"):
        Server("127.0.0.1", int(server.server_address[1]), Stub(), TOKEN)
    with pytest.raises(GeneratorError, match="--host"):
        Server("198.51.100.1", 0, Stub(), TOKEN)
