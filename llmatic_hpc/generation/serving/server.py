"""HTTP in front of the engine: tokens, limits, clients that vanish, and an end.

A thread for each connection waits for its client's text and looks meanwhile whether the client is
still there. Nothing that a client sends ends the server.
"""

from __future__ import annotations

import contextlib
import hmac
import io
import json
import logging
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

from ...errors import GeneratorError
from .protocol import LARGEST_BODY, Asked, Refusal, Written, answer, parse

IDLE_SECONDS = 120.0
"""Time that a connection may be silent between two requests."""

REQUEST_SECONDS = 10.0
"""Time that a request's head has to arrive, and then its body."""

LOOK_SECONDS = 1.0
"""Time between two looks at whether a client is still there."""

MOST_CONNECTIONS = 2000

LARGEST_DISCARDED = 16 << 20
"""Bytes of a body that is refused which are read all the same, so that its sender hears why."""

FORMS = {"/v1/chat/completions": "chat", "/v1/completions": "completion"}

_log = logging.getLogger(__name__)


class Ticket(Protocol):
    """A request on its way."""

    done: threading.Event
    written: Written | None
    refusal: Refusal | None


class Writer(Protocol):
    """Writer of the answers: :class:`.engine.Engine`, or a stand-in."""

    facts: dict[str, Any]
    """The model, as ``/v1/models`` says it."""

    @property
    def counts(self) -> dict[str, int]:
        """Requests by where they are."""
        ...

    def submit(self, asked: Asked) -> Any:
        """Queue a request and return its :class:`Ticket`, or raise :class:`Refusal`."""
        ...

    def cancel(self, ticket: Any) -> None:
        """Forget a request."""
        ...


class Server(ThreadingHTTPServer):
    """A server that listens on ``host`` and ``port`` (0: any that is free) and wants ``token``.

    Clients wait until it is told to :meth:`answer`, which it is once they can know the token.

    Raises :class:`~llmatic_hpc.errors.GeneratorError` where it cannot listen there.
    """

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, host: str, port: int, writer: Writer, token: str) -> None:
        self.writer, self.token = writer, token
        self.created = int(time.time())
        self._connections = threading.Semaphore(MOST_CONNECTIONS)
        self._changed = threading.Condition()
        self._busy = 0
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            self.address_family = found[0][0]
            super().__init__((host, port), Handler)
        except OSError as error:
            raise GeneratorError(
                f"cannot listen at {host}, port {port}: {error.strerror}; name an address of this "
                "machine by --host (0.0.0.0: all), and by --port one that is free (0: any)"
            ) from None
        self._thread = threading.Thread(target=self.serve_forever, args=(0.1,), daemon=True)

    def answer(self) -> None:
        """Begin to answer."""
        self._thread.start()

    @property
    def url(self) -> str:
        """Base of requests, as other machines say it."""
        host, port = str(self.server_address[0]), self.server_address[1]
        if host in ("0.0.0.0", "::"):
            host = socket.gethostname()
        return f"http://[{host}]:{port}/v1" if ":" in host else f"http://{host}:{port}/v1"

    def server_bind(self) -> None:
        """Bind without asking for the machine's name, which can take long."""
        socketserver.TCPServer.server_bind(self)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Take a connection, unless there are too many."""
        if self._connections.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer the requests of a connection, in its thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._connections.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log what a connection died of; the others do not notice."""
        _log.info("a connection has ended", exc_info=True)

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Count a request that is to be answered."""
        with self._changed:
            self._busy += 1
        try:
            yield
        finally:
            with self._changed:
                self._busy -= 1
                self._changed.notify_all()

    def refuse_connections(self) -> None:
        """Take no more connections; those that are there go on."""
        self.shutdown()
        self._thread.join()
        self.server_close()

    def wait_answered(self, seconds: float) -> None:
        """Wait, so long at most, until all that is asked has been answered."""
        with self._changed:
            self._changed.wait_for(lambda: not self._busy, seconds)


class _Timed(io.RawIOBase):
    """Bytes of a connection, which have to come in time, all of them together."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.until = 0.0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self.until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self.connection.settimeout(left)
        return self.connection.recv_into(buffer)


class Handler(BaseHTTPRequestHandler):
    """The requests of one connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "llmatic-hpc", ""

    def setup(self) -> None:
        """Read through a clock."""
        super().setup()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.clock = _Timed(self.connection)
        self.rfile = io.BufferedReader(self.clock)

    def handle_one_request(self) -> None:
        """Wait for a request, then give its head a little time."""
        self.clock.until = time.monotonic() + IDLE_SECONDS
        try:
            self.rfile.peek(1)  # type: ignore[attr-defined]
            self.clock.until = time.monotonic() + REQUEST_SECONDS
            super().handle_one_request()
        except (OSError, ValueError):  # too late, gone, or closed by a failed write
            self.close_connection = True

    def do_GET(self) -> None:
        """Answer ``/health`` and ``/v1/models``."""
        self._answer(self._looked_up)

    def do_POST(self) -> None:
        """Answer with a text."""
        self._answer(self._completion)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the terminal for what matters."""
        _log.debug(format, *args)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer what is no request at all in the same form as everything else."""
        self.close_connection = True
        self.request_version = self.protocol_version  # else it might get no status line
        self._send(int(code), Refusal(int(code), message or "not a request").body())

    def _answer(self, find: Any) -> None:
        with self.server.at_work():
            try:
                found: dict[str, Any] = find()
            except Refusal as refusal:
                _log.info("refused with %d: %s", refusal.status, refusal)
                self._send(refusal.status, refusal.body(), refusal.retry_after)
            except OSError:  # too slow, or gone
                self.close_connection = True
            except Exception:
                _log.exception("a request failed")
                self._send(500, Refusal(500, "the server failed; its log says how").body())
            else:
                self._send(200, found)

    def _looked_up(self) -> dict[str, Any]:
        self._body(discard=True)
        path, writer = self.path.partition("?")[0], self.server.writer
        if path == "/health":
            return {"status": "ok", **writer.counts}
        self._check_token()
        model = {**writer.facts, "created": self.server.created}
        if path == "/v1/models":
            return {"object": "list", "data": [model]}
        if path == f"/v1/models/{model['id']}":
            return model
        raise Refusal(404, f"there is no {path[:100]}")

    def _completion(self) -> dict[str, Any]:
        form = FORMS.get(self.path.partition("?")[0])
        try:
            if form is None:
                raise Refusal(404, f"there is no {self.path[:100]}")
            self._check_token()
        except Refusal:
            self._body(discard=True)
            raise
        model = str(self.server.writer.facts["id"])
        asked = parse(self._body(), form, model)
        return answer(asked, self._written(asked), model)

    def _written(self, asked: Asked) -> Written:
        """Wait for a text as long as there is somebody to send it to."""
        ticket: Ticket = self.server.writer.submit(asked)
        while not ticket.done.wait(LOOK_SECONDS):
            if self._is_gone():
                self.server.writer.cancel(ticket)
                _log.info("a client is gone; its request is cancelled")
                raise ConnectionError
        if ticket.written is None:
            raise ticket.refusal or Refusal(500, "no answer")
        return ticket.written

    def _is_gone(self) -> bool:
        self.connection.setblocking(False)
        try:
            return not self.connection.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def _check_token(self) -> None:
        kind, _, given = self.headers.get("Authorization", "").partition(" ")
        is_right = hmac.compare_digest(given.strip().encode(), self.server.token.encode())
        if kind.lower() != "bearer" or not is_right:
            message = "the token is missing or wrong; the server's address file has it"
            raise Refusal(401, message, code="invalid_api_key")

    def _body(self, *, discard: bool = False) -> bytes:
        """Read the body of a request; raises :class:`Refusal` where it is too large."""
        text = self.headers.get("Content-Length", "")
        if self.headers.get("Transfer-Encoding") or not (text or discard):
            self.close_connection = True
            raise Refusal(411, "a request needs its Content-Length")
        if not (text or "0").isdecimal() or len(text) > 15:
            self.close_connection = True
            raise Refusal(400, "Content-Length must be a number")
        length = int(text or 0)
        self.clock.until = time.monotonic() + REQUEST_SECONDS
        if discard or length > LARGEST_BODY:
            left = min(length, LARGEST_DISCARDED)
            while left and (part := self.rfile.read(min(left, 1 << 16))):
                left -= len(part)
            if length <= LARGEST_BODY:
                return b""
            self.close_connection = True
            raise Refusal(413, f"a request may have {LARGEST_BODY:,} bytes; this has {length:,}")
        body = self.rfile.read(length)
        if len(body) < length:
            raise ConnectionError
        return body

    def _send(self, status: int, body: dict[str, Any], retry_after: int = 0) -> None:
        data = json.dumps(body).encode()
        self.connection.settimeout(REQUEST_SECONDS)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if retry_after:
            self.send_header("Retry-After", str(retry_after))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)
