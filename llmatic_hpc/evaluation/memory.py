"""Count the memory of tensors that are alive at once while a network runs."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterable
from typing import Any

from torch import Tensor


class Alive:
    """Adds up the storages behind tensors that are shown to it until the last of them is gone.

    Seen are the tensors that functions of torch return, not what attention and recurrent layers of
    its own hold inside. On any device, the meta device included, where nothing is allocated. Views
    share the storage of what they view. Storages of ``others``, such as parameters, do not count.
    """

    def __init__(self, others: Iterable[Tensor]) -> None:
        self.most = 0
        """Most bytes alive at once so far."""
        self._bytes = 0
        self._others = {_storage(tensor)[0] for tensor in others}
        self._holders: Counter[int] = Counter()
        self._known: dict[int, weakref.ref[Tensor]] = {}

    def show(self, found: Any) -> None:
        """Count the tensors in what a function returned."""
        if isinstance(found, (tuple, list)):
            for one in found:
                self.show(one)
        elif isinstance(found, Tensor) and id(found) not in self._known:
            storage, size = _storage(found)
            if storage in self._others:
                return
            if not self._holders[storage]:
                self._bytes += size
                self.most = max(self.most, self._bytes)
            self._holders[storage] += 1
            name = id(found)

            def gone(_: Any) -> None:
                del self._known[name]
                self._holders[storage] -= 1
                if not self._holders[storage]:
                    self._bytes -= size

            self._known[name] = weakref.ref(found, gone)


def _storage(tensor: Tensor) -> tuple[int, int]:
    """Return the identity of a tensor's storage, and its bytes."""
    storage = tensor.untyped_storage()
    return storage._cdata, storage.nbytes()
