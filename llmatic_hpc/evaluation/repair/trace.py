"""Watch where a source constructs and calls its modules. For a contained child."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any

from torch import nn
from torch.nn.modules import module as module_hooks

from .. import build
from .spans import Span


@dataclass
class Call:
    """A module at work."""

    module: nn.Module
    inputs: tuple[Any, ...]
    place: Span | None
    """The expression of the source that called it, or what it is part of."""


class Watch:
    """Notes where the source constructs and calls every module, while it is entered."""

    def __init__(self) -> None:
        self.afresh()

    def afresh(self) -> Watch:
        """Forget everything: another trial begins. Returns itself."""
        self.sites: dict[int, list[Span]] = {}
        """Calls that construct a module, the innermost first, by id of the module."""
        self.kept: list[nn.Module] = []
        """Every module, so that none is freed and gives its id to another."""
        self.stack: list[Call] = []
        """Modules at work; after an exception, the last one raised it or let it pass."""
        self.called: set[int] = set()
        self.tuples: list[Span] = []
        """Calls of torch's own layers that gave a tuple, the last one last."""
        return self

    def __enter__(self) -> Watch:
        self._original = original = nn.Module.__init__

        def initialise(module: nn.Module, *args: Any, **kwargs: Any) -> None:
            places = [place for place in _places() if place is not None]
            if id(module) not in self.sites:
                self.sites[id(module)] = places
                self.kept.append(module)
            original(module, *args, **kwargs)

        # Once for all trials: after it Python looks every attribute of a module up anew.
        nn.Module.__init__ = initialise  # type: ignore[assignment, method-assign]
        self._hooks = [
            module_hooks.register_module_forward_pre_hook(self._before),
            module_hooks.register_module_forward_hook(self._after),
        ]
        return self

    def __exit__(self, *_: object) -> None:
        nn.Module.__init__ = self._original  # type: ignore[method-assign]
        for hook in self._hooks:
            hook.remove()

    def _before(self, module: nn.Module, inputs: Any) -> None:
        self.stack.append(Call(module, inputs, next(_places(), None)))
        self.called.add(id(module))

    def _after(self, module: nn.Module, inputs: Any, output: Any) -> None:
        while self.stack:
            call = self.stack.pop()
            if call.module is module:
                if isinstance(output, tuple) and is_torch(module) and call.place:
                    self.tuples.append(call.place)
                return


def _places() -> Iterator[Span | None]:
    """Yield what the frames of the source are executing, the innermost first."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename == build.SOURCE_NAME:
            yield position(frame.f_code, frame.f_lasti)
        frame = frame.f_back


def position(code: Any, instruction: int) -> Span | None:
    """Return the expression of the source that an instruction belongs to."""
    at = instruction // 2
    line, end_line, column, end_column = next(itertools.islice(code.co_positions(), at, None))
    span = (line, column, end_line, end_column)
    return None if None in span else span


def is_torch(module: nn.Module) -> bool:
    return type(module).__module__.startswith("torch.nn.")
