"""Tests of the server leave no connection behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .stub import Client


@pytest.fixture(autouse=True)
def closed_connections() -> Iterator[None]:
    """Close the connections of a test's clients."""
    yield
    while Client.made:
        Client.made.pop().connection.close()
