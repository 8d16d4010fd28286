from __future__ import annotations

import logging

from proxy.observer.logs import SDK_PAUSE_S, OncePerPause


def said(name: str, at_s: float, pause: OncePerPause) -> bool:
    record = logging.LogRecord(name, logging.ERROR, "", 0, "x", (), None)
    record.created = at_s
    return pause.filter(record)


def test_sdk_says_one_thing_a_minute_and_logger() -> None:
    pause = OncePerPause()
    name = "opentelemetry.exporter.otlp"
    assert [said(name, at_s, pause) for at_s in (0, 1, SDK_PAUSE_S, SDK_PAUSE_S + 1)] == [True, False, True, False]
    assert said("opentelemetry.sdk", 1, pause)


def test_own_warnings_are_always_said() -> None:
    pause = OncePerPause()
    assert all(said("proxy.observer.ledger.writer", 0, pause) for _ in range(3))
