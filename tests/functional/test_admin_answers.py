"""`postern budgets` where what answers isn't a Postern: it is told in words, and nobody else gets the admin token."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from proxy.cli import main

TOKEN = "admin-planted-0123456789"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s"
NOT_OURS = "is no admin listener of Postern's"


class _Listener(socketserver.ThreadingTCPServer):
    """Answers whatever it is asked with the same bytes, and keeps what it was asked."""

    allow_reuse_address = daemon_threads = True

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.asked: list[bytes] = []
        super().__init__(("127.0.0.1", 0), _Once)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


class _Once(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, _Listener)
        self.server.asked.append(self.request.recv(65_536))
        self.request.sendall(self.server.answer)


@contextmanager
def listener(answer: bytes) -> Iterator[_Listener]:
    with _Listener(answer) as running:
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield running
        running.shutdown()


def ask(folder: Path, address: str, *arguments: str) -> int:
    file = folder / "postern.yaml"
    file.write_text(f'admin: {{listen: "{address}", token: {TOKEN}}}\ntargets: {{sim: {{provider: simulated}}}}\n')
    return main(["budgets", *arguments, "--config", str(file)])


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"220 mail.example ESMTP\r\n", "No Postern answers at"),
        (b"", "No Postern answers at"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n[", "No Postern answers at"),
        (OK % (5, b"hello"), "No Postern answers at"),
        (OK % (12, b'{"budgets":1}'), "No Postern answers at"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\n<h1>", f"{NOT_OURS}: 404"),
        (b"HTTP/1.1 500 No\r\nContent-Length: 100\r\n\r\n{", f"{NOT_OURS}: 500"),
        (b'HTTP/1.1 401 No\r\nContent-Length: 11\r\n\r\n{"error":3}', f"{NOT_OURS}: 401"),
        (b'HTTP/1.1 401 No\r\nContent-Length: 25\r\n\r\n{"error": "Send a token"}', "Send a token"),
    ],
)
def test_what_is_no_postern_is_told_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str], answer: bytes, said: str) -> None:
    with listener(answer) as somebody:
        assert ask(tmp_path, somebody.address) == 1
        told = capsys.readouterr()
    assert told.out == ""
    assert said in told.err
    assert TOKEN not in told.err


@pytest.mark.parametrize("arguments", [(), ("reset", "day")])
def test_the_admin_token_goes_to_nobody_else(tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]) -> None:
    with listener(OK % (2, b"[]")) as elsewhere:
        leads_away = b"HTTP/1.1 302 Found\r\nLocation: http://%s/budgets\r\nContent-Length: 0\r\n\r\n" % elsewhere.address.encode()
        with listener(leads_away) as somebody:
            assert ask(tmp_path, somebody.address, *arguments) == 1
    assert f"{NOT_OURS}: 302" in capsys.readouterr().err
    assert elsewhere.asked == []
