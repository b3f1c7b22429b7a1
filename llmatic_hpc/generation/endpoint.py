"""Networks written by a model behind an OpenAI-compatible server: vLLM, llama.cpp, Ollama, SGLang.

What the server need not be told twice is found out at the start, within seconds: whether it is
there, takes the key, offers the model, and answers a request of this form. The package
``openai`` does the talking: it repeats what failed for the moment (429, 5xx, no connection, no
answer in time) after exponentially growing, randomised pauses, or when the server says.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import os
import threading
import time
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

from ..config import GeneratorSettings
from ..errors import GeneratorError
from ..types import Completion, Problem, Request
from . import prompts
from .base import ModelUnavailable
from .language_model.stopping import end_of_class

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

_LIST_LENGTH = 10
_REFUSALS = (openai.BadRequestError, openai.UnprocessableEntityError)
_log = logging.getLogger(__name__)
T = TypeVar("T")


class Endpoint:
    """A model by the URL of its server.

    Form ``auto`` is ``chat``: a server does not tell whether its model has a chat template, and
    nearly all that are served have. For a model that only continues text, set
    ``generator.form = "completion"``.

    Temperature, ``top_p`` and the request's seed (its lowest 31 bits, which every server takes)
    are sent along; whether a seed repeats a text is up to the server. The key is read from the
    environment variable that ``generator.key_variable`` names, and appears nowhere else.

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
        self.url = _base(settings.url)
        self.problem = problem
        self.settings = settings
        self.prompt_tokens = 0
        """Read by the server so far, as it counts them."""
        self.completion_tokens = 0
        """Written by the server so far, as it counts them."""
        self._key = _key(settings.key_variable)
        self._client = openai.AsyncOpenAI(
            base_url=self.url,
            api_key=self._key or "none",  # left out, openai would send OPENAI_API_KEY
            timeout=settings.request_seconds,
            max_retries=settings.retries,
        )
        self._slots = asyncio.Semaphore(settings.concurrency)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="endpoint")
        self._thread.start()
        try:
            self._submit(self._check()).result()
        except BaseException:
            self.close()
            raise

    def generate(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Yield completions as they arrive; leaving the iterator cancels the requests still out."""
        before = self.prompt_tokens, self.completion_tokens
        asked = [self._submit(self._complete(request)) for request in requests]
        try:
            for answer in concurrent.futures.as_completed(asked):
                yield answer.result()
        finally:
            for answer in asked:
                answer.cancel()
            _log.info(
                "%s: %d of %d requests answered; %d tokens read, %d written",
                self.name, sum(a.done() and not a.cancelled() for a in asked), len(asked),
                self.prompt_tokens - before[0], self.completion_tokens - before[1],
            )  # fmt: skip

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
                text, reason, tokens = await self._ask(request, self.settings.max_new_tokens)
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
        answer: Any
        try:
            if self.form == "chat":
                options["messages"] = prompts.chat_messages(request, self.problem)
                answer = await self._client.chat.completions.create(**options)
                text = answer.choices[0].message.content or ""
            else:
                options |= {"prompt": prompts.completion_prompt(request), "stop": list(STOPS)}
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

    async def _check(self) -> None:
        """Ask for the list of models, then for one token."""
        client = self._client.with_options(max_retries=1, timeout=PROBE_SECONDS / 2)
        try:
            offered = [str(model.id) async for model in client.models.list()]
        except openai.NotFoundError as error:
            raise GeneratorError(
                f"{self.url}/models: there is no such page ({self._words(error)}); set "
                "generator.url to the base of an OpenAI-compatible server, which usually ends "
                "in /v1"
            ) from None
        except openai.OpenAIError as error:
            raise self._error(error, attempts=2) from None
        except (AttributeError, TypeError, ValueError):
            raise GeneratorError(
                f"{self.url}/models: not a list of models; set generator.url to the base of an "
                "OpenAI-compatible server, which usually ends in /v1"
            ) from None
        model = self.settings.model
        if model not in offered and f"{model}:latest" not in offered:  # as Ollama names it
            raise ModelUnavailable(
                f"{self.url}: does not offer {model}",
                f"set generator.model to what it offers: {_listed(offered)}",
            )
        await self._try_out()

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
            await self._ask(trial, 1)
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


def _base(url: str) -> str:
    """Complete a URL without a path, ``http://host:8000``, to ``http://host:8000/v1``."""
    return url.rstrip("/") + ("" if urlsplit(url).path.strip("/") else "/v1")


def _key(variable: str) -> str:
    """Read the key from an environment variable; empty where none is named."""
    if not variable:
        return ""
    key = os.environ.get(variable, "").strip()
    if not key:
        raise GeneratorError(
            f"generator.key_variable = {variable!r}: no such environment variable, or an empty "
            f"one; set it to the server's key (export {variable}=...)"
        )
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise GeneratorError(
            f"the environment variable {variable} holds no key: keys are printable, without spaces"
        )
    return key


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_LIST_LENGTH]) or "nothing"
    more = len(names) - _LIST_LENGTH
    return f"{shown} and {more:,} more" if more > 0 else shown
