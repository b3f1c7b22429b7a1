"""Run a test in a process of its own: a device cannot be taken from torch once it is known.

    @apart
    def test_it(tmp_path):
        simulated.start()
        ...

A server imports torch once, and each test is a fork of it: a tenth of a second. What the test
takes, fixtures and parameters, has to be picklable.
"""

from __future__ import annotations

import functools
import importlib
import multiprocessing
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import pytest

from . import simulated

SECONDS = 300.0
_PRELOADED = ["tests.accelerator.preloaded"]


def apart(test: Callable[..., None]) -> Callable[..., None]:
    """Decorate a function of a test module; skipped where torch cannot have the device."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        if missing := simulated.missing():
            pytest.skip(missing)
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(_PRELOADED)
        ours, theirs = context.Pipe(duplex=False)
        name = (test.__module__, test.__qualname__)
        process = context.Process(target=_perform, args=(theirs, *name, args, kwargs))
        process.start()
        theirs.close()
        try:
            kind, text = ours.recv() if ours.poll(SECONDS) else ("failed", "it hangs")
        except EOFError:
            kind, text = "failed", "its process died"
        finally:
            ours.close()
            process.kill()
            process.join()
            process.close()
        if kind == "skipped":
            pytest.skip(text)
        if kind == "failed":
            pytest.fail(text, pytrace=False)

    return run


def _perform(
    answer: Connection, module: str, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    try:
        test = getattr(importlib.import_module(module), name)
        test.__wrapped__(*args, **kwargs)
    except pytest.skip.Exception as skipped:
        answer.send(("skipped", str(skipped)))
    except BaseException:
        answer.send(("failed", traceback.format_exc()))
    else:
        answer.send(("passed", ""))
