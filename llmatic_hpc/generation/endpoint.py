"""Networks written by a model behind an OpenAI-compatible server: vLLM, llama.cpp, Ollama, SGLang.

What the server need not be told twice is found out at the start, within seconds: whether it is
there, takes the key, offers the model, and answers a request of this form. The package
``openai`` does the talking: it repeats what failed for the moment (429, 5xx, no connection, no
answer in time) after exponentially growing, randomised pauses, or when the server says.

A server of this package (:mod:`.serving`) may say where it is in a file. It is read again for every
attempt, so that a server may end and come back at another port or on another machine.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import math
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ..config import GeneratorSettings
from ..errors import GeneratorError, Interrupted
from ..types import Completion, Problem, Request
from . import prompts, servers
from .base import STOP, ModelUnavailable
from .language_model.stopping import end_of_class
from .serving import address
from .serving.protocol import OWNER

try:
    import openai
except ImportError:
    raise GeneratorError(
        "generator.kind = 'endpoint' needs the package openai; run "
        "pip install 'llmatic-hpc[endpoint]'"
    ) from None

PROBE_SECONDS = 10.0
"""Longest wait for the server's list of models."""

STOPS = ("\nclass ", "\ndef ", '\n"""', "\nif __name__")
"""Texts at which the server ends a continued class; OpenAI's own takes four at most."""

PAUSE_SECONDS = 1.0
"""Time between two looks for a server that is away."""

TOKEN_SECONDS = 60.0
"""Longest wait for another file where a server refuses the token in it."""

STOP_SECONDS = 0.5
"""Time between two looks whether the run is to stop, while no answer comes."""

_REFUSALS = (openai.BadRequestError, openai.UnprocessableEntityError)
_log = logging.getLogger(__name__)
T = TypeVar("T")


class _Away(ModelUnavailable):
    """No server runs where the file says, or none does yet."""


class Endpoint:
    """A model by the URL of its server, or by the file in which a server says where it is.

    Form ``auto`` is ``chat``: a server does not tell whether its model has a chat template, and
    nearly all that are served have. For a model that only continues text, set
    ``generator.form = "completion"``. A server of this package does tell.

    Temperature, ``top_p`` and the request's seed (its lowest 31 bits, which every server takes)
    are sent along; whether a seed repeats a text is up to the server. That of this package is sent
    all of the seed, and writes in single precision what ``generator.kind = "huggingface"`` writes.
    The key is read from the environment variable that ``generator.key_variable`` names, or from the
    server's file, and appears nowhere else.

    Raises:
        ModelUnavailable: the server cannot be reached or does not offer the model.
        GeneratorError: it refuses the key or the form of the requests; no key is set.
    """

    kind = "endpoint"
    repeatable = False

    def __init__(self, settings: GeneratorSettings, problem: Problem) -> None:
        self.name = f"endpoint:{settings.model}"
        self.form = "completion" if settings.form == "completion" else "chat"
        self.writes_prose = self.form == "chat"
        self._file = settings.address_file
        self.url = str(self._file) if self._file else servers.base(settings.url)
        self.served: dict[str, Any] = {}
        """Model as the server describes it: at least ``id``; some tell a digest and more."""
        self.problem = problem
        self.settings = settings
        self.prompt_tokens = 0
        """Read by the server so far, as it counts them."""
        self.completion_tokens = 0
        """Written by the server so far, as it counts them."""
        self._key = servers.key(settings.key_variable)
        self._client = openai.AsyncOpenAI(
            base_url="http://localhost" if self._file else self.url,
            api_key=self._key or "none",  # left out, openai would send OPENAI_API_KEY
            timeout=settings.request_seconds,
            max_retries=0 if self._file else settings.retries,
            # A node of the cluster is not reached through the site's proxy.
            http_client=openai.DefaultAsyncHttpxClient(trust_env=False) if self._file else None,
        )
        self._address: address.Address | None = None
        self._is_waiting = False
        self._stop = STOP.get()
        self._finding = asyncio.Lock()
        self._slots = asyncio.Semaphore(settings.concurrency)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="endpoint")
        self._thread.start()
        try:
            for _ in self._awaited([self._submit(self._check())]):
                pass
        except BaseException:
            self.close()
            raise

    def generate(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Yield completions as they arrive; leaving the iterator cancels the requests still out."""
        before = self.prompt_tokens, self.completion_tokens
        asked = [self._submit(self._complete(request)) for request in requests]
        try:
            yield from self._awaited(asked)
        finally:
            for answer in asked:
                answer.cancel()
            _log.info(
                "%s: %d of %d requests answered; %d tokens read, %d written",
                self.name, sum(a.done() and not a.cancelled() for a in asked), len(asked),
                self.prompt_tokens - before[0], self.completion_tokens - before[1],
            )  # fmt: skip

    def _awaited(self, asked: Sequence[concurrent.futures.Future[T]]) -> Iterator[T]:
        """Yield results as they come; leave where the run is to stop and none does."""
        waiting = set(asked)
        while waiting:
            done, waiting = concurrent.futures.wait(
                waiting, STOP_SECONDS, return_when=concurrent.futures.FIRST_COMPLETED
            )
            for answer in done:
                yield answer.result()
            if not done and self._stop is not None and self._stop.is_set():
                raise Interrupted(f"{self.url}: the run was asked to stop; nothing is lost")

    def close(self) -> None:
        """Cancel whatever is under way and close the connections."""
        if self._loop.is_closed():
            return
        with contextlib.suppress(concurrent.futures.TimeoutError):
            self._submit(self._shut_down()).result(timeout=5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        if not self._thread.is_alive():
            self._loop.close()

    async def _complete(self, request: Request) -> Completion:
        """Ask the server for one completion.

        A request that it refuses for its content is a failure of that completion alone, since the
        form was tried at the start.
        """
        failure = ""
        async with self._slots:
            started = time.perf_counter()
            try:
                text, reason, tokens = await self._patiently(
                    lambda: self._ask(request, self.settings.max_new_tokens)
                )
            except _REFUSALS as error:
                failure = f"the server refuses the request: {self._words(error)}"
                text, reason, tokens = "", "length", 0
            except openai.NotFoundError as error:
                raise GeneratorError(
                    f"{self.url}: no longer offers {self.settings.model} ({self._words(error)}); "
                    "start the server with that model again, then the run"
                ) from None
            except openai.OpenAIError as error:
                raise self._error(error, self.settings.retries + 1) from None
        end = end_of_class(text, form=self.form)
        return Completion(
            candidate=request.candidate,
            text=text[:end],
            form=self.form,
            prefix=prompts.PREFIX if self.form == "completion" else "",
            tokens=tokens,
            finished=end is not None or reason != "length",
            seconds=time.perf_counter() - started,
            failure=failure,
        )

    async def _ask(self, request: Request, most: int) -> tuple[str, str, int]:
        """Ask for one completion; return its text, why it ended, and its number of tokens."""
        options: Any = {
            "model": self.settings.model,
            "max_tokens": most,
            "temperature": request.temperature,
            "top_p": self.settings.top_p,
            "seed": request.seed % 2**31,
        }
        stops: Any = {"stop": list(STOPS)}
        if self._is_ours:
            options |= {"seed": request.seed % 2**63, "extra_body": {"stop_at_class": True}}
            stops = {}
        answer: Any
        try:
            if self.form == "chat":
                options["messages"] = prompts.chat_messages(request, self.problem)
                answer = await self._client.chat.completions.create(**options)
                text = answer.choices[0].message.content or ""
            else:
                options |= {"prompt": prompts.completion_prompt(request), **stops}
                answer = await self._client.completions.create(**options)
                text = answer.choices[0].text or ""
            reason = str(answer.choices[0].finish_reason)
        except (AttributeError, IndexError, TypeError, ValueError) as error:
            raise GeneratorError(
                f"{self.url}: answered something that is no completion "
                f"({type(error).__name__}: {self._hidden(str(error))}); is generator.url that of "
                "an OpenAI-compatible server?"
            ) from None
        usage = getattr(answer, "usage", None)
        written = int(getattr(usage, "completion_tokens", 0) or 0)
        self.prompt_tokens += int(getattr(usage, "prompt_tokens", 0) or 0)
        self.completion_tokens += written
        return text, reason, written

    @property
    def _is_ours(self) -> bool:
        return bool(self.served.get("owned_by") == OWNER)

    @property
    def _patience(self) -> float:
        """Seconds for which a server may be away."""
        return self.settings.request_seconds * (self.settings.retries + 1)

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask; where a file says where, also a server that comes back elsewhere meanwhile.

        Then a failed attempt is repeated as ``openai`` does it. A server that is not there is
        waited for as long as one that is silent would be: ``request_seconds`` for each attempt.
        """
        if self._file is None:
            return await ask()
        failed, until, refused_until = 0, math.inf, math.inf
        while True:
            try:
                await self._find(self._file)
                found = await ask()
                self._is_waiting = False
                return found
            except (openai.APITimeoutError, openai.RateLimitError, openai.InternalServerError) as e:
                failed, until = failed + 1, math.inf
                if failed > self.settings.retries:
                    raise
                pause = servers.pause(e, failed)
            except (openai.APIConnectionError, _Away) as error:
                until = min(until, time.monotonic() + self._patience)
                if time.monotonic() >= until:
                    raise
                self._say_waiting(error, self._patience)
                pause = PAUSE_SECONDS
            except openai.AuthenticationError as error:
                # Another server is at the old one's place, or the new one's file is not yet there.
                patience = min(self._patience, TOKEN_SECONDS)
                refused_until = min(refused_until, time.monotonic() + patience)
                if time.monotonic() >= refused_until:
                    raise
                self._say_waiting(error, patience)
                pause = PAUSE_SECONDS
            await asyncio.sleep(pause)

    async def _find(self, file: Path) -> None:
        """Turn to the server that the file names."""
        found = address.read(file)
        if found is None:
            raise _Away(f"{file}: there is no such file, so no server runs", _START)
        async with self._finding:
            if found == self._address:
                return
            self._address, self._key = None, found.token  # until it is met
            self._client = self._client.with_options(base_url=found.url, api_key=found.token)
            await self._meet()
            self._address = found
            _log.info("%s: %s is served at %s", file, self.settings.model, found)

    def _say_waiting(self, error: Exception, seconds: float) -> None:
        if not self._is_waiting:
            self._is_waiting = True
            said = self._words(error) if isinstance(error, openai.OpenAIError) else str(error)
            _log.warning(
                "%s: waiting for its server, %g seconds at most%s: %s", self.url, seconds,
                " (generator.request_seconds for each of generator.retries)"
                if seconds == self._patience else "", said,
            )  # fmt: skip

    async def _check(self) -> None:
        """Ask for the list of models, then for one token."""
        try:
            await self._patiently(self._meet)
        except openai.OpenAIError as error:
            raise self._error(error, self.settings.retries + 1 if self._file else 2) from None
        if self._is_ours and self.settings.form == "auto":
            self.form = str(self.served.get("form", self.form))
            self.writes_prose = self.form == "chat"
        await self._try_out()

    async def _meet(self) -> None:
        """Ask for the list of models and find the one that is wanted."""
        client = self._client.with_options(
            max_retries=0 if self._file else 1, timeout=PROBE_SECONDS / 2
        )
        try:
            offered = {str(model.id): dict(model) async for model in client.models.list()}
        except openai.APITimeoutError as error:
            if self._file is None:
                raise
            # Its node may be off: another one is waited for as if there were no file.
            where = address.read(self._file) or "its server"
            said = f"{self.url}: {where} does not answer ({self._words(error)})"
            raise _Away(said, _START) from None
        except openai.NotFoundError as error:
            raise GeneratorError(
                f"{self.url}/models: there is no such page ({self._words(error)}); set "
                "generator.url to the base of an OpenAI-compatible server, which usually ends "
                "in /v1"
            ) from None
        except (AttributeError, TypeError, ValueError):
            raise GeneratorError(
                f"{self.url}/models: not a list of models; set generator.url to the base of an "
                "OpenAI-compatible server, which usually ends in /v1"
            ) from None
        model = self.settings.model
        found = offered.get(model) or offered.get(f"{model}:latest")  # as Ollama names it
        if found is None:
            raise ModelUnavailable(
                f"{self.url}: does not offer {model}",
                f"set generator.model to what it offers: {servers.listed(list(offered))}",
            )
        served = servers.facts(found)
        servers.refuse_other_model(self.served, served, self.url)
        if self.served and served != self.served:
            _log.warning("%s: the server says now: %s", self.url, served)
        self.served = served

    async def _try_out(self) -> None:
        trial = Request(
            candidate=0,
            operator="mutation",
            prompt=0,
            instruction=self.problem.prompts[0],
            parents=(self.problem.initial_source,),
            temperature=self.settings.temperature,
            seed=0,
        )
        try:
            await self._patiently(lambda: self._ask(trial, 1))
        except openai.NotFoundError as error:
            other = "chat" if self.form == "completion" else "completion"
            raise GeneratorError(
                f"{self.url}: knows no requests of form {self.form} ({self._words(error)}); set "
                f"generator.form = '{other}'"
            ) from None
        except _REFUSALS as error:
            hint = ""
            if self.form == "chat":
                hint = "a model without a chat template needs generator.form = 'completion'; "
            raise GeneratorError(
                f"{self.url}: {self.settings.model} refuses even a short request "
                f"({self._words(error)}); {hint}the server's own log says more"
            ) from None
        except openai.OpenAIError as error:
            raise self._error(error, self.settings.retries + 1) from None

    def _error(self, error: openai.OpenAIError, attempts: int) -> GeneratorError:
        """Convert a server-wide failure to a :class:`GeneratorError` that says what to do."""
        said = self._words(error)
        if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
            variable = self.settings.key_variable
            if self._file:
                return GeneratorError(f"{self.url}: its server refuses the token in it; {_START}")
            return GeneratorError(
                f"{self.url}: refuses the key in {variable} ({said}); set {variable} to one that "
                "it accepts"
                if variable
                else f"{self.url}: wants a key ({said}); put it into an environment variable and "
                "set generator.key_variable to that variable's name"
            )
        if isinstance(error, openai.APITimeoutError):
            return ModelUnavailable(
                f"{self.url}: no answer in time, {attempts} times",
                f"is it at work? {_REACH}; for one that is slow raise generator.request_seconds "
                "or lower generator.concurrency",
            )
        if isinstance(error, openai.APIConnectionError) and self._file:
            where = address.read(self._file) or "it"
            return ModelUnavailable(
                f"{self.url}: {where} cannot be reached, for {self._patience:g} seconds "
                f"(generator.request_seconds for each of generator.retries; {said})",
                _START,
            )
        if isinstance(error, openai.APIConnectionError):
            return ModelUnavailable(f"{self.url}: cannot be reached ({said})", _REACH)
        if isinstance(error, openai.RateLimitError):
            return ModelUnavailable(
                f"{self.url}: takes no more requests, up to {attempts} times ({said})",
                "lower generator.concurrency, raise generator.retries, or wait",
            )
        if isinstance(error, openai.InternalServerError):
            return ModelUnavailable(
                f"{self.url}: failed, up to {attempts} times ({said})",
                "the server's own log says why",
            )
        return GeneratorError(f"{self.url}: {said}; the server's own log says more")

    def _words(self, error: openai.OpenAIError) -> str:
        """Return the first line of what the server said, short and without the key."""
        cause = error.__cause__ if isinstance(error, openai.APIConnectionError) else None
        lines = str(cause or error).strip().splitlines() or [type(error).__name__]
        return self._hidden(lines[0])

    def _hidden(self, text: str) -> str:
        # Some servers quote the key that they refuse.
        text = text.replace(self._key, "***") if self._key else text
        return text if len(text) <= 300 else text[:300] + "..."

    def _submit(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _shut_down(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._client.close()


_REACH = "start the server, or correct generator.url (and the proxy, if your site has one)"


_START = "start one, 'llmatic serve CONFIG --file FILE', and the same command goes on"
