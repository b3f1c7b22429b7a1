"""A model behind a server: llama.cpp's real one with a real small model, and, since a real
server cannot be made to misbehave, a plain HTTP server that answers whatever a test says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from llmatic_hpc import config as configuration
from llmatic_hpc.config import GeneratorSettings
from llmatic_hpc.errors import ConfigError, GeneratorError, Interrupted
from llmatic_hpc.generation import ModelUnavailable, create
from llmatic_hpc.generation.base import stopped_by
from llmatic_hpc.generation.endpoint import Endpoint
from llmatic_hpc.generation.servers import base
from llmatic_hpc.sandbox import confine
from llmatic_hpc.types import Completion, Problem, Request

Ask = Callable[..., Request]
KEY = "sk-very-secret-0123456789"


def endpoint_settings(url: str, **changes: object) -> GeneratorSettings:
    values = {"kind": "endpoint", "url": url, "model": "small", "max_new_tokens": 12, "retries": 2}
    return GeneratorSettings(**{**values, **changes})  # type: ignore[arg-type]


# --- the real one -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def llama(test_model: Path) -> Iterator[str]:
    """The address of llama.cpp's server, which wants ``KEY``."""
    command = [sys.executable, "-m", "tests.generation.llama_server", str(test_model), KEY]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        assert server.stdout is not None
        try:
            address = server.stdout.readline().strip()
            assert address, "llama.cpp's server did not start"
            yield address
        finally:
            server.kill()


@pytest.fixture(scope="module")
def key() -> Iterator[None]:
    """The key where the settings say."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLM_TEST_KEY", KEY)
        yield


@pytest.mark.usefixtures("key")
def test_a_real_server_chats(llama: str, problem: Problem, ask: Ask) -> None:
    """Texts and tokens come from the model; a prompt that exceeds its context is the failure of
    that completion, and the server's own words say so."""
    chat = Endpoint(endpoint_settings(llama, key_variable="LLM_TEST_KEY"), problem)
    before = chat.prompt_tokens
    long = ask(2, parents=("x = 1\n" * 2000,))
    try:
        answers = {c.candidate: c for c in chat.generate([ask(0), ask(1), long])}
    finally:
        chat.close()
    assert sorted(answers) == [0, 1, 2]
    for number in (0, 1):
        assert answers[number].text.strip()
        assert answers[number].tokens == 12
        assert (answers[number].form, answers[number].prefix) == ("chat", "")
        assert not answers[number].finished
        assert answers[number].seconds > 0
    assert chat.prompt_tokens - before > 200
    assert "exceeds the available context size" in answers[2].failure
    assert answers[2].text == ""


@pytest.mark.usefixtures("key")
def test_a_real_server_continues_text(llama: str, problem: Problem, ask: Ask) -> None:
    """The paper's prompt, continued inside the class."""
    wish = endpoint_settings(llama, key_variable="LLM_TEST_KEY", form="completion")
    generator = Endpoint(wish, problem)
    try:
        [answer] = generator.generate([ask(0, temperature=0.0)])
    finally:
        generator.close()
    assert answer.prefix == "class Net(nn.Module):"
    assert answer.text.lstrip().startswith("def __init__(self")


@pytest.mark.usefixtures("key")
def test_a_real_server_says_no(llama: str, problem: Problem, monkeypatch: Any) -> None:
    """No key, a wrong key, another model: known at once, each with its own advice."""
    started = time.monotonic()
    with pytest.raises(GeneratorError, match=r"wants a key .* generator\.key_variable"):
        Endpoint(endpoint_settings(llama), problem)
    with pytest.raises(ModelUnavailable, match=r"does not offer large; .* what it offers: small"):
        Endpoint(endpoint_settings(llama, model="large", key_variable="LLM_TEST_KEY"), problem)
    monkeypatch.setenv("LLM_TEST_KEY", "sk-another")
    with pytest.raises(GeneratorError, match="refuses the key in LLM_TEST_KEY") as caught:
        Endpoint(endpoint_settings(llama, key_variable="LLM_TEST_KEY"), problem)
    assert not isinstance(caught.value, ModelUnavailable)
    assert time.monotonic() - started < 20


# --- one that misbehaves ----------------------------------------------------------------------

Answer = tuple[int, dict[str, str], Any]
OK_TEXT = (
    "```python\nclass Net(nn.Module):\n    def forward(self, x):\n        return x\n```\nMore."
)


def completion(text: str = OK_TEXT, reason: str = "stop") -> Answer:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "text": text,
              "finish_reason": reason}  # fmt: skip
    usage = {"prompt_tokens": 100, "completion_tokens": 7, "total_tokens": 107}
    return 200, {}, {"id": "1", "object": "chat.completion", "created": 1, "model": "small",
                     "choices": [choice], "usage": usage}  # fmt: skip


def refusal(status: int, message: str, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return status, named, {"error": {"message": message, "type": "some", "code": None}}


class Server(ThreadingHTTPServer):
    """Answers requests with what ``script`` says in turn, then with completions."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.models: Answer = (200, {}, {"object": "list", "data": [{"id": "small"}]})
        self.script: list[Answer | float] = []
        self.asked: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.at_once = self.most_at_once = 0
        self.seconds = 0.0
        self.came = threading.Event()
        """Set when a request came that is no trial."""
        self.gone = threading.Event()
        """Set when a client hung up before its answer was ready."""
        self.guard = threading.Lock()

    def handle_error(self, *args: object) -> None:
        """Clients that hang up are what is tested here."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self._send(self.server.models)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        headers = {name.lower(): value for name, value in self.headers.items()}
        trial = body["max_tokens"] == 1
        with self.server.guard:
            answer: Answer | float = completion()
            if not trial:
                self.server.asked.append(body | {"path": self.path, "headers": headers})
                self.server.times.append(time.monotonic())
                answer = self.server.script.pop(0) if self.server.script else answer
                self.server.came.set()
            self.server.at_once += 1
            self.server.most_at_once = max(self.server.most_at_once, self.server.at_once)
        wait = answer if isinstance(answer, float) else self.server.seconds
        self.connection.settimeout(wait or 0.001)
        try:
            if not self.connection.recv(1):
                self.server.gone.set()
                return
        except TimeoutError:
            pass
        finally:
            with self.server.guard:
                self.server.at_once -= 1
        self.connection.settimeout(5)
        self._send(completion() if isinstance(answer, float) else answer)

    def _send(self, answer: Answer) -> None:
        status, headers, body = answer
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as found:
        thread = threading.Thread(target=found.serve_forever, args=(0.01,))
        thread.start()
        yield found
        found.shutdown()
        thread.join()


@pytest.fixture
def make(server: Server, problem: Problem) -> Iterator[Callable[..., Endpoint]]:
    """Generators on that server, which are closed afterwards."""
    made: list[Endpoint] = []

    def endpoint(**changes: object) -> Endpoint:
        made.append(Endpoint(endpoint_settings(server.url, **changes), problem))
        return made[-1]

    yield endpoint
    for generator in made:
        generator.close()
        generator.close()


Make = Callable[..., Endpoint]


def test_what_is_sent(server: Server, make: Make, problem: Problem, ask: Ask) -> None:
    """Temperature, nucleus and seed of the request, the model's name, no key where none is set
    (not even one that other programs use), and the paper's prompt as completion."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", KEY)
        [answer] = make(top_p=0.9).generate([ask(3, temperature=0.25, seed=2**40 + 5)])
    [sent] = server.asked
    assert sent["path"] == "/v1/chat/completions"
    assert (sent["model"], sent["temperature"], sent["top_p"]) == ("small", 0.25, 0.9)
    assert (sent["seed"], sent["max_tokens"]) == (5, 12)
    assert sent["messages"][0]["role"] == "system"
    assert KEY not in json.dumps(sent)
    assert answer == Completion(
        candidate=3, text=OK_TEXT.removesuffix("\nMore."), form="chat", prefix="", tokens=7,
        finished=True, seconds=answer.seconds,
    )  # fmt: skip
    list(make(form="completion").generate([ask()]))
    sent = server.asked[-1]
    assert sent["path"] == "/v1/completions"
    assert sent["prompt"].endswith("\n\nclass Net(nn.Module):")
    assert "\nclass " in sent["stop"]


def test_the_text_ends_with_the_class(server: Server, make: Make, ask: Ask) -> None:
    """Text that comes after is cut; a text at the limit is not finished unless its class is."""
    body = "\n    def forward(self, x):\n        return x\n"
    server.script = [completion(body + "print(1)\n", "length"), completion("\n    def f", "length")]
    generator = make(form="completion", concurrency=1)
    first, second = generator.generate([ask(0), ask(1)])
    assert (first.text, first.finished) == (body, True)
    assert (second.text, second.finished) == ("\n    def f", False)


def test_no_more_at_once_than_allowed(server: Server, make: Make, ask: Ask) -> None:
    """Every request is answered once, three at a time; tokens are counted."""
    server.seconds = 0.1
    generator = make(concurrency=3)
    read, written = generator.prompt_tokens, generator.completion_tokens
    answers = list(generator.generate([ask(n) for n in range(12)]))
    assert sorted(a.candidate for a in answers) == list(range(12))
    assert server.most_at_once == 3
    assert (generator.prompt_tokens - read, generator.completion_tokens - written) == (1200, 84)
    assert list(generator.generate([])) == []


def test_completions_come_as_they_finish(server: Server, make: Make, ask: Ask) -> None:
    """A slow one holds up nobody."""
    server.script = [1.0]
    generator = make(concurrency=1000)
    answers = [a.candidate for a in generator.generate([ask(n) for n in range(4)])]
    assert sorted(answers) == [0, 1, 2, 3]
    assert answers[-1] == server.asked[0]["seed"] - ask(0).seed


def test_too_many_requests(server: Server, make: Make, ask: Ask) -> None:
    """The server says when to come back, and gets its time."""
    server.script = [refusal(429, "slow down", Retry_After="1.5")]
    [answer] = make().generate([ask()])
    assert answer.finished
    first, second = server.times
    assert 1.4 < second - first < 5


def test_a_server_that_stumbles(server: Server, make: Make, ask: Ask) -> None:
    """500 and 503, then an answer, after growing pauses."""
    server.script = [refusal(500, "oh"), refusal(503, "loading")]
    [answer] = make().generate([ask()])
    assert answer.finished
    first, second, third = server.times
    assert third - second > second - first > 0.3


def test_a_server_that_keeps_failing(server: Server, make: Make, ask: Ask) -> None:
    """After the retries, an error with the server's words; what came before it is not lost."""
    generator = make(retries=1, concurrency=1)
    server.script = [completion(), refusal(500, "out of cheese"), refusal(500, "out of cheese")]
    answers = generator.generate([ask(n) for n in range(5)])
    assert next(answers).finished
    with pytest.raises(GeneratorError, match=r"failed, up to 2 times .*out of cheese"):
        list(answers)


def test_a_server_that_stays_busy(server: Server, make: Make, ask: Ask) -> None:
    """The advice is to ask for less at once."""
    generator = make(retries=1)
    server.script = [refusal(429, "quota")] * 2
    with pytest.raises(GeneratorError, match=r"no more requests.*quota.*concurrency"):
        list(generator.generate([ask()]))


def test_a_server_that_hangs(server: Server, make: Make, ask: Ask) -> None:
    """A request has its time, and so have its repetitions."""
    generator = make(request_seconds=0.3, retries=1)
    server.script = [2.0]
    [answer] = generator.generate([ask()])
    assert answer.finished
    server.script = [2.0, 2.0]
    with pytest.raises(GeneratorError, match=r"no answer in time, 2 times; .*request_seconds"):
        list(generator.generate([ask()]))


@pytest.mark.parametrize("body", ["{", '"text"', "<html>hello</html>", '{"choices": []}'])
def test_garbage(server: Server, make: Make, ask: Ask, body: str) -> None:
    """Any answer that is no completion ends in a message."""
    generator = make()
    server.script = [(200, {}, body)]
    with pytest.raises(GeneratorError, match="answered something that is no completion"):
        list(generator.generate([ask()]))


@pytest.mark.parametrize("status", [400, 422])
def test_a_prompt_that_is_too_long(server: Server, make: Make, ask: Ask, status: int) -> None:
    """The completion fails in the server's words; the others go on."""
    server.script = [refusal(status, "This model's maximum context length is 2048 tokens.")]
    answers = list(make(concurrency=1).generate([ask(n) for n in range(3)]))
    failed = [a for a in answers if a.failure]
    assert len(answers) == 3
    assert len(failed) == 1
    assert "refuses the request" in failed[0].failure
    assert "maximum context length is 2048" in failed[0].failure
    assert not failed[0].finished


def test_a_model_that_goes_away(server: Server, make: Make, ask: Ask) -> None:
    """404 in the middle of a run."""
    generator = make()
    server.script = [refusal(404, "The model `small` does not exist.")]
    with pytest.raises(GeneratorError, match=r"no longer offers small .*does not exist"):
        list(generator.generate([ask()]))


def test_leaving_hangs_up(server: Server, make: Make, ask: Ask) -> None:
    """A caller that leaves the iterator, by an exception for example, waits for nothing, and the
    server need not go on writing."""
    generator = make(concurrency=4)
    server.script = [completion(), 30.0, 30.0, 30.0]
    answers = generator.generate([ask(n) for n in range(20)])
    next(answers)
    started = time.monotonic()
    answers.close()  # type: ignore[attr-defined]
    assert server.gone.wait(5)
    generator.close()
    assert time.monotonic() - started < 5
    assert len(server.asked) < 10


def test_closing_ends_what_is_under_way(server: Server, make: Make, ask: Ask) -> None:
    """close() does not wait for the server, either."""
    generator = make()
    server.script = [30.0]
    answers = generator.generate([ask()])
    waiting = threading.Thread(target=lambda: next(answers, None), daemon=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading, "excepthook", lambda *args: None)
        waiting.start()
        while not server.asked:
            time.sleep(0.01)
        generator.close()
        waiting.join(5)
    assert not waiting.is_alive()
    assert server.gone.wait(5)


def test_a_run_that_is_to_stop_does_not_wait(server: Server, make: Make, ask: Ask) -> None:
    """A signal ends the wait for an answer; the request is taken back."""
    stop = threading.Event()
    with stopped_by(stop):
        generator = make()
    server.script = [30.0]

    def once_asked() -> None:
        server.came.wait(20)
        stop.set()

    threading.Thread(target=once_asked).start()
    with pytest.raises(Interrupted, match="nothing is lost"):
        list(generator.generate([ask()]))
    assert server.gone.wait(5)


# --- at the start -----------------------------------------------------------------------------


def test_nobody_there(problem: Problem) -> None:
    """A refused connection is known within seconds, and a fallback takes over."""
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as closed:
        url = f"http://127.0.0.1:{closed.server_port}"
    started = time.monotonic()
    with pytest.raises(ModelUnavailable, match=r"cannot be reached .*start the server"):
        Endpoint(endpoint_settings(url, retries=100), problem)
    assert time.monotonic() - started < 8
    said: list[str] = []
    control = create(endpoint_settings(url, fallback="procedural"), problem, notify=said.append)
    assert control.name.startswith("procedural (control without a language model; fallback: http")
    assert len(said) == 1


def test_somebody_silent(
    server: Server, make: Make, problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that takes connections and says nothing does not hold up a start."""
    monkeypatch.setattr("llmatic_hpc.generation.endpoint.PROBE_SECONDS", 1.0)
    monkeypatch.setattr(Handler, "do_GET", lambda self: time.sleep(3))
    started = time.monotonic()
    with pytest.raises(ModelUnavailable, match="no answer"):
        make(retries=100)
    assert time.monotonic() - started < 3


@pytest.mark.parametrize(
    ("models", "complaint"),
    [
        (refusal(404, "no such page"), r"/v1/models: there is no such page .*ends in /v1"),
        (refusal(403, "not for you"), r"wants a key .*not for you"),
        (refusal(500, "broken"), r"failed, up to 2 times .*broken"),
        ((200, {}, "{"), "not a list of models"),
        ((200, {"Content-Type": "text/html"}, "<html>"), "not a list of models"),
        ((200, {}, {"object": "list", "data": [{"id": "a"}, {"id": "b"}]}), "it offers: a, b"),
        ((200, {}, {"object": "list", "data": []}), "it offers: nothing"),
    ],
)
def test_what_a_start_finds_out(server: Server, make: Make, models: Answer, complaint: str) -> None:
    """The list of models tells at the start what is wrong."""
    server.models = models
    with pytest.raises(GeneratorError, match=complaint):
        make()


def test_a_long_list_is_cut(server: Server, make: Make) -> None:
    """And a name without its tag is what Ollama means by it."""
    names = [{"id": f"m{n}"} for n in range(50)]
    server.models = (200, {}, {"object": "list", "data": names})
    with pytest.raises(ModelUnavailable, match="m9 and 40 more"):
        make()
    server.models = (200, {}, {"object": "list", "data": [{"id": "small:latest"}]})
    make()


@pytest.mark.parametrize(
    ("answer", "form", "complaint"),
    [
        (refusal(404, "Not Found"), "completion", r"form completion .*generator\.form = 'chat'"),
        (refusal(400, "no chat template"), "auto", r"even a short request .*form = 'completion'"),
    ],
)
def test_a_form_that_the_server_does_not_know(
    server: Server, make: Make, monkeypatch: pytest.MonkeyPatch, answer: Answer, form: str,
    complaint: str,
) -> None:  # fmt: skip
    """One token is asked for at the start, and the advice is the other form."""
    monkeypatch.setattr(Handler, "do_POST", lambda self: self._send(answer))
    with pytest.raises(GeneratorError, match=complaint) as caught:
        make(form=form)
    assert not isinstance(caught.value, ModelUnavailable)


def test_the_base_of_the_url() -> None:
    """/v1 goes without saying; another base is left as it is."""
    assert base("http://host:8000") == base("http://host:8000/") == "http://host:8000/v1"
    assert base("https://host/v1/") == "https://host/v1"
    assert base("https://host/openai/v2") == "https://host/openai/v2"


def test_the_package_is_missing(problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says how to install it."""
    monkeypatch.setitem(sys.modules, "openai", None)
    monkeypatch.delitem(sys.modules, "llmatic_hpc.generation.endpoint")
    with pytest.raises(GeneratorError, match=r"pip install 'llmatic-hpc\[endpoint\]'"):
        create(endpoint_settings("http://127.0.0.1:1"), problem, notify=print)


# --- the key ----------------------------------------------------------------------------------


def test_the_key_goes_to_the_server_only(
    server: Server, make: Make, ask: Ask, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """The server gets it; messages, tracebacks, logs, names and children's environments do not,
    even where the server quotes it."""
    monkeypatch.setenv("LLM_TEST_KEY", f" {KEY}\n")
    caplog.set_level("DEBUG")
    generator = make(key_variable="LLM_TEST_KEY", retries=0)
    list(generator.generate([ask()]))
    assert server.asked[0]["headers"]["authorization"] == f"Bearer {KEY}"
    written = [repr(generator.name), caplog.text]
    for answer in (
        refusal(401, f"Incorrect key {KEY}"), refusal(500, f"{KEY} broke"), (200, {}, f"{KEY}"),
        refusal(429, KEY), refusal(418, KEY), refusal(404, KEY),
    ):  # fmt: skip
        server.script = [answer]
        with pytest.raises(GeneratorError) as caught:
            list(generator.generate([ask()]))
        written += ["".join(traceback.format_exception(caught.value))]
    server.script = [refusal(400, f"{KEY} is too long")]
    written += [repr(list(generator.generate([ask()])))]
    written += [repr(confine.environment(threads=1, gpu=False)), caplog.text]
    assert not [text for text in written if KEY in text]
    assert "***" in written[2]


def test_a_run_keeps_no_key(server: Server, tmp_path: Path) -> None:
    """A whole run, its networks written by the server, with the key in the environment: nothing
    that it prints or leaves on disk holds it."""
    root = Path(__file__).parents[2]
    values = {
        "generator.kind": "endpoint", "generator.url": server.url, "generator.model": "small",
        "generator.key_variable": "LLM_TEST_KEY", "search.generations": 1, "search.batch": 2,
        "training.epochs": 1, "cluster.kind": "inline",
    }  # fmt: skip
    options = [word for name, value in values.items() for word in ("--set", f"{name}={value}")]
    command = [sys.executable, "-m", "llmatic_hpc", "run", "configs/smoke.toml", *options]
    done = subprocess.run(
        [*command, "--run-dir", str(tmp_path / "run")],
        cwd=root, env={**os.environ, "LLM_TEST_KEY": KEY}, capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(server.asked) == 2
    assert all(sent["headers"]["authorization"] == f"Bearer {KEY}" for sent in server.asked)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"run.h5", "config.toml", "coordinator.log"} <= {path.name for path in files}
    assert not [path for path in files if KEY.encode() in path.read_bytes()]
    assert KEY not in done.stdout + done.stderr
    log = (tmp_path / "run" / "logs" / "coordinator.log").read_text()
    assert "2 of 2 requests answered; 200 tokens read, 14 written" in log


@pytest.mark.parametrize("value", ["", "  ", "two words", "schlüssel"])
def test_no_key_or_none_that_could_be(
    server: Server, make: Make, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    """The message names the variable and not its value."""
    monkeypatch.setenv("LLM_TEST_KEY", value)
    with pytest.raises(GeneratorError, match="LLM_TEST_KEY") as caught:
        make(key_variable="LLM_TEST_KEY")
    assert not value.strip() or value not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({}, r"needs generator\.url"),
        ({"url": "host:8000"}, r"needs generator\.url.*got 'host:8000'"),
        ({"url": "http://host:port"}, r"needs generator\.url"),
        ({"url": f"http://me:{KEY}@host/v1"}, "must hold no key or password"),
        ({"url": f"http://host/v1?key={KEY}"}, "must hold no key or password"),
        ({"url": "http://host", "key_variable": KEY}, "never the key itself"),
        ({"url": "http://host", "key_variable": KEY.replace("-", "")}, "never the key itself"),
    ],
)
def test_settings_that_cannot_be(changes: dict[str, str], complaint: str) -> None:
    """Told before anything is written; what may be a key is not repeated."""
    table = {"generator": {"kind": "endpoint", **changes}}
    with pytest.raises(ConfigError, match=complaint) as caught:
        configuration.from_tables(table, "mine.toml")
    assert KEY not in str(caught.value)
    assert KEY.replace("-", "") not in str(caught.value)


def test_the_example(tmp_path: Path) -> None:
    """The example is read, and another server makes no other run of it."""
    path = Path(__file__).parents[2] / "configs" / "endpoint.toml"
    config = configuration.load(path)
    assert config.generator.kind == "endpoint"
    other = configuration.override(
        config,
        ["generator.url=http://elsewhere", "generator.concurrency=3", "generator.retries=0",
         "generator.request_seconds=9", "generator.key_variable=OTHER_KEY"],
    )  # fmt: skip
    from llmatic_hpc.config.fields import changed_settings

    assert changed_settings(config, other) == []
    assert os.environ.get("OTHER_KEY") is None
