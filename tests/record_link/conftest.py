"""Both ends of a socketpair are left open by scripts that end in the middle of something: they are closed here."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def closed_socketpairs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Close every socketpair that the test made."""
    made: list[socket.socket] = []
    make = socket.socketpair

    def remembering() -> tuple[socket.socket, socket.socket]:
        ends = make()
        made.extend(ends)
        return ends

    monkeypatch.setattr(socket, "socketpair", remembering)
    yield
    for end in made:
        end.close()
