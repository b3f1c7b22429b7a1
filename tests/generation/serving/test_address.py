"""A server that is found by its file: elsewhere, later, or another one than before."""

from __future__ import annotations

import contextlib
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llmatic_hpc import config as configuration
from llmatic_hpc.config import GeneratorSettings
from llmatic_hpc.coordinator.opening import open_generator
from llmatic_hpc.errors import ConfigError, GeneratorError
from llmatic_hpc.generation import ModelUnavailable, create, endpoint
from llmatic_hpc.generation.endpoint import Endpoint
from llmatic_hpc.generation.serving import address
from llmatic_hpc.generation.serving.address import Address
from llmatic_hpc.generation.serving.server import Server
from llmatic_hpc.types import Problem, Request

from ...coordinator.command import load, run
from .stub import MODEL, TOKEN, Stub

Ask = Callable[..., Request]


class Mortal(Server):
    """Ends with all its connections, as a process does."""

    def __init__(self, *arguments: Any) -> None:
        self.sockets: list[socket.socket] = []
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.sockets.append(request)
        super().process_request(request, client_address)

    def die(self) -> None:
        self.refuse_connections()
        for one in self.sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


class Servers:
    """Servers one after the other, each on a port of its own and with its own token."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.running: list[Mortal] = []

    def start(self, stub: Stub) -> Server:
        server = Mortal("127.0.0.1", 0, stub, f"{TOKEN}-{time.monotonic_ns()}")
        self.running.append(server)
        Address(server.url, server.token, 1, "here", MODEL).write(self.file)
        server.answer()
        return server

    def stop(self) -> None:
        """As a kill ends it: connections break, and the file stays."""
        self.running.pop().die()


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    found = Servers(tmp_path / "serve.json")
    yield found
    while found.running:
        found.stop()


@pytest.fixture
def make(servers: Servers, problem: Problem) -> Iterator[Callable[..., Endpoint]]:
    """Generators by that file, closed afterwards."""
    made: list[Endpoint] = []

    def generator(**changes: Any) -> Endpoint:
        values = {"kind": "endpoint", "url": str(servers.file), "model": MODEL}
        made.append(Endpoint(GeneratorSettings(**values | changes), problem))  # type: ignore[arg-type]
        return made[-1]

    yield generator
    for one in made:
        one.close()


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "PAUSE_SECONDS", 0.05)


def test_the_file_is_for_its_owner(tmp_path: Path) -> None:
    """Nobody else may read it at any time; it is removed by its own server alone."""
    file, one = tmp_path / "serve.json", Address("http://h:1/v1", "secret", 7, "h", "m")
    (tmp_path / "serve.json.tmp").write_text("left by a kill, for all to read")
    one.write(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert address.read(file) == one
    assert "secret" not in str(one)
    Address("http://h:2/v1", "other", 8, "h", "m").remove(file)
    assert file.exists()
    one.remove(file)
    assert address.read(file) is None
    one.write(file)
    file.chmod(0o644)
    with pytest.raises(GeneratorError, match=r"others may read .* chmod 600"):
        address.read(file)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"url": 1}', "[" * 100_000])
def test_a_file_that_is_something_else(tmp_path: Path, text: str) -> None:
    """It is told as that, and a server does not take its place."""
    file = tmp_path / "notes.json"
    file.write_text(text)
    with pytest.raises(GeneratorError, match=r"not the address .*generator\.url"):
        address.refuse_second(file)
    assert file.read_text() == text


def test_one_server_a_file(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second one is refused while the first answers, whatever proxy is set."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    servers.start(Stub())
    with pytest.raises(GeneratorError, match=r"answers there: http.*process 1 on here"):
        address.refuse_second(servers.file)
    servers.stop()
    address.refuse_second(servers.file)


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_found_by_its_file(
    servers: Servers, make: Callable[..., Endpoint], ask: Ask, scheme: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Texts come from the server that the file names, whatever proxy is set; it is sent whole seeds
    and told to end with the class; what it says of its model is known."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    stub = Stub()
    servers.start(stub)
    generator = make(url=f"{scheme}{servers.file}")
    [answer] = generator.generate([ask(0, seed=2**62 + 1)])
    assert (answer.text, answer.tokens, answer.form) == ("words", 3, "chat")
    asked = stub.tickets[-1].asked
    assert (asked.seed, asked.stop_at_class, asked.stops) == (2**62 + 1, True, ())
    assert generator.served["digest"] == "sha256:1"
    assert generator.served["precision"] == "float32"
    assert "created" not in generator.served


def test_a_server_that_comes_back_elsewhere(
    servers: Servers, make: Callable[..., Endpoint], ask: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    """Clients that wait are answered by the next server, on another port with another token, and
    the log says what they waited for."""
    servers.start(Stub())
    generator = make(concurrency=2)
    servers.stop()
    with ThreadPoolExecutor() as pool, caplog.at_level("WARNING"):
        asked = pool.submit(lambda: list(generator.generate([ask(n) for n in range(4)])))
        while "waiting for its server, 2100 seconds" not in caplog.text:
            threading.Event().wait(0.01)
        assert not asked.done()
        stub = Stub()
        servers.start(stub)
        assert len(asked.result(timeout=20)) == 4
    assert len(stub.tickets) == 4
    assert caplog.text.count("waiting for its server") == 1


def test_a_start_before_the_server(
    servers: Servers, make: Callable[..., Endpoint], ask: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    """A generator that is made before there is a file waits for it."""
    with ThreadPoolExecutor() as pool, caplog.at_level("WARNING"):
        made = pool.submit(make)
        while "no such file, so no server runs" not in caplog.text:
            threading.Event().wait(0.01)
        servers.start(Stub())
        assert len(list(made.result(timeout=20).generate([ask(0)]))) == 1


def test_no_server_at_all(servers: Servers, problem: Problem) -> None:
    """After the time that the settings give it an error says which file, and a fallback goes on."""
    wish = GeneratorSettings(
        kind="endpoint", url=str(servers.file), model=MODEL, request_seconds=0.2, retries=0
    )
    with pytest.raises(
        ModelUnavailable, match=r"serve\.json: there is no such file.*llmatic serve"
    ):
        Endpoint(wish, problem)
    servers.start(Stub())
    servers.stop()
    with pytest.raises(ModelUnavailable, match=r"cannot be reached, for 0\.2 seconds") as caught:
        Endpoint(wish, problem)
    assert "http://127.0.0.1:" in str(caught.value)
    assert TOKEN not in str(caught.value)
    said: list[str] = []
    other = GeneratorSettings(
        kind="endpoint", url=str(servers.file), model=MODEL, request_seconds=0.2, retries=0,
        fallback="procedural",
    )  # fmt: skip
    assert create(other, problem, notify=said.append).name.startswith("procedural")
    assert said[0].startswith("looking for the server of ")


def test_a_token_that_is_refused(
    servers: Servers, make: Callable[..., Endpoint], ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another server is at the place of the one that the file is of: its own file is waited for,
    for a while, at the start and later."""
    servers.start(Stub())
    right = address.read(servers.file)
    assert right is not None
    wrong = replace(right, token="of another")
    wrong.write(servers.file)
    monkeypatch.setattr(endpoint, "TOKEN_SECONDS", 0.4)
    with pytest.raises(GeneratorError, match=r"its server refuses the token in it"):
        make()
    monkeypatch.setattr(endpoint, "TOKEN_SECONDS", 60.0)
    with ThreadPoolExecutor() as pool:
        made = pool.submit(make)
        threading.Event().wait(0.2)
        right.write(servers.file)
        generator = made.result(timeout=20)
        wrong.write(servers.file)
        answers = pool.submit(lambda: list(generator.generate([ask(0)])))
        threading.Event().wait(0.2)
        right.write(servers.file)
        assert len(answers.result(timeout=20)) == 1


def test_a_server_that_is_silent(
    servers: Servers, make: Callable[..., Endpoint], monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """A node that is off takes no part in how long the next server is waited for."""
    monkeypatch.setattr(endpoint, "PROBE_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # the kernel takes connections
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        Address(url, TOKEN, 1, "gone", MODEL).write(servers.file)
        with ThreadPoolExecutor() as pool, caplog.at_level("WARNING"):
            made = pool.submit(lambda: make(retries=0))
            while "process 1 on gone) does not answer" not in caplog.text:
                assert not made.done()
                threading.Event().wait(0.01)
            servers.start(Stub())
            assert made.result(timeout=20).served["digest"] == "sha256:1"


def test_a_full_queue_is_asked_again(
    servers: Servers, make: Callable[..., Endpoint], ask: Ask
) -> None:
    """After the time that the server says, as often as ``retries`` allows."""
    stub = Stub()
    servers.start(stub)
    generator = make(retries=1)
    stub.most = 0
    began = time.monotonic()
    with pytest.raises(ModelUnavailable, match="takes no more requests, up to 2 times"):
        list(generator.generate([ask(0)]))
    assert time.monotonic() - began > 0.9


def test_another_model_by_that_name(
    servers: Servers, make: Callable[..., Endpoint], problem: Problem, ask: Ask
) -> None:
    """Other weights write nothing into a run, whether they come in its middle or between two
    starts; the record has what the server said."""
    servers.start(Stub())
    generator = make()
    servers.stop()
    servers.start(Stub(digest="sha256:2"))
    with pytest.raises(GeneratorError, match="another model by that name: sha256:2 in place of"):
        list(generator.generate([ask(0)]))
    recorded: dict[str, Any] = {}
    wish = GeneratorSettings(kind="endpoint", url=str(servers.file), model=MODEL)
    open_generator(wish, problem, recorded, notify=lambda text: None).close()
    assert recorded["generator_served"]["digest"] == "sha256:2"
    recorded["generator_served"]["digest"] = "sha256:1"
    with pytest.raises(GeneratorError, match="begin another run"):
        open_generator(wish, problem, recorded, notify=lambda text: None)


@pytest.mark.slow
def test_a_run_by_a_file(servers: Servers, tmp_path: Path) -> None:
    """A whole run: its record has the model's digest, and nothing that it leaves has the token."""
    server = servers.start(Stub())
    settings = (
        "generator.kind=endpoint", f"generator.url={servers.file}", f"generator.model={MODEL}",
        "search.batch=2", "search.generations=1",
    )  # fmt: skip
    done = run(tmp_path / "run", *settings)
    served = load(tmp_path / "run").environment["generator_served"]
    assert (served["digest"], served["precision"]) == ("sha256:1", "float32")
    assert f"looking for the server of {servers.file}" in done.stderr
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert not [path for path in files if server.token.encode() in path.read_bytes()]
    assert server.token not in done.stdout + done.stderr


def test_settings() -> None:
    """A file needs no key; a path that begins beside the configuration is found there."""
    table = {"generator": {"kind": "endpoint", "url": "runs/serve.json"}}
    settings = configuration.from_tables(table, "mine.toml").generator
    assert settings.address_file == Path("runs/serve.json")
    url = GeneratorSettings(url="file:///a%20b/serve.json")
    assert url.address_file == Path("/a b/serve.json")
    assert GeneratorSettings(url="http://host/serve.json").address_file is None
    table["generator"]["key_variable"] = "KEY"
    with pytest.raises(ConfigError, match="key_variable must be empty"):
        configuration.from_tables(table, "mine.toml")
