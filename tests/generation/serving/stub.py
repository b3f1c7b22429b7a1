"""A writer that answers when a test lets it, and plain HTTP to ask its server."""

from __future__ import annotations

import http.client
import json
import threading
from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.parse import urlsplit

from llmatic_hpc.generation.serving.protocol import OWNER, Asked, Refusal, Written
from llmatic_hpc.generation.serving.server import Server

TOKEN = "a-token-of-tests"
MODEL = "small"


@dataclass(eq=False)
class Ticket:
    """A request at the stub."""

    asked: Asked
    done: threading.Event = field(default_factory=threading.Event)
    written: Written | None = None
    refusal: Refusal | None = None


class Stub:
    """Answers at once while ``answers`` is set, refuses beyond ``most`` that wait."""

    def __init__(self, *, answers: bool = True, most: int = 1000, digest: str = "sha256:1") -> None:
        self.facts = {
            "id": MODEL, "object": "model", "owned_by": OWNER, "digest": digest,
            "precision": "float32", "form": "chat",
        }  # fmt: skip
        self.answers, self.most = answers, most
        self.tickets: list[Ticket] = []
        self.arrived = threading.Semaphore(0)
        self.cancelled = threading.Event()

    @property
    def counts(self) -> dict[str, int]:
        return {"running": 0, "waiting": sum(not t.done.is_set() for t in self.tickets)}

    def submit(self, asked: Asked) -> Ticket:
        if self.counts["waiting"] >= self.most:
            raise Refusal(429, "full", code="queue_full", retry_after=1)
        self.tickets.append(Ticket(asked))
        self.arrived.release()
        if self.answers:
            self.answer(self.tickets[-1])
        return self.tickets[-1]

    def answer(self, ticket: Ticket, text: str = "words") -> None:
        ticket.written = Written(text, True, 11, 3)
        ticket.done.set()

    def cancel(self, ticket: Ticket) -> None:
        self.cancelled.set()


class Client:
    """One connection to a server, kept between requests and closed after the test."""

    made: ClassVar[list[Client]] = []

    def __init__(self, server: Server, token: str = TOKEN) -> None:
        at = urlsplit(server.url)
        self.connection = http.client.HTTPConnection(str(at.hostname), at.port, timeout=20)
        self.made.append(self)
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}

    def ask(self, path: str, body: Any = None, **headers: str) -> tuple[int, Any, Any]:
        """Status, body and headers; ``body`` is bytes, or becomes JSON."""
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        method = "GET" if data is None else "POST"
        self.connection.request(method, path, data, self.headers | headers)
        answer = self.connection.getresponse()
        return answer.status, json.loads(answer.read()), answer.headers

    def complete(self, **fields: Any) -> tuple[int, Any, Any]:
        """A completion of a short prompt."""
        return self.ask("/v1/completions", {"model": MODEL, "prompt": "import"} | fields)
