from __future__ import annotations

from proxy.observer.progress import Party, Progress


def begun(count: int) -> tuple[Progress, list[int]]:
    told: list[int] = []
    progress = Progress(told.append)
    for _ in range(count):
        progress.begin()
    return progress, told


def test_only_what_comes_first_is_acknowledged() -> None:
    progress, told = begun(5)
    for sequence, acknowledged in [(1, 0), (2, 0), (0, 3), (4, 3), (3, 5)]:
        progress.release([sequence], Party.READER)
        assert progress.acknowledged == acknowledged
    assert told == [3, 5]


def test_a_record_waits_for_everybody_who_holds_it() -> None:
    progress, _ = begun(1)
    for party in (Party.LEDGER, Party.TRACES, Party.LOGS):
        progress.hold(0, party)
    seen = []
    for party in (Party.TRACES, Party.READER, Party.LEDGER, Party.LOGS):
        progress.release([0], party)
        seen.append((progress.settled, progress.acknowledged))
    assert seen == [(0, 0), (0, 0), (1, 0), (1, 1)]


def test_several_released_at_once_are_told_once() -> None:
    progress, told = begun(100)
    progress.release(range(100), Party.READER)
    assert told == [100]
