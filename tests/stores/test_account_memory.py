"""Which incarnation of an account a sidecar tells of after a loss: the last that everybody had heard of."""

from __future__ import annotations

import pytest

from proxy.stores.account_memory import HEARD_MS, SETTLE_MS, AccountMemory, Known

AT_MS = 1_790_000_000_000
NEVER_LOST = 0


def incarnation(began_ms: int) -> str:
    return f"{began_ms}.7.abc"


def heard(memory: AccountMemory, began_ms: int, spent: int, told: int, settled_in_ms: int = NEVER_LOST, version: int = 1) -> bool:
    """An answer: what was spent by all, and of that by this sidecar."""
    went_back = memory.take(incarnation(began_ms), version, {1: told})
    memory.keep(Known(version, spent, 0), settled_in_ms)
    return went_back


@pytest.fixture
def memory() -> AccountMemory:
    memory = AccountMemory()
    heard(memory, AT_MS, spent=50, told=10)
    return memory


def test_what_is_heard_of_an_account_that_was_never_lost_is_remembered_at_once(memory) -> None:
    assert (memory.incarnation, memory.known.spent, memory.told(1)) == (incarnation(AT_MS), 50, (10, 0))


def test_what_is_heard_before_everybody_has_told_is_not_what_is_told_after_the_next_loss(memory) -> None:
    memory.begin_anew(incarnation(AT_MS + 9000))
    heard(memory, AT_MS + 9000, spent=12, told=12, settled_in_ms=100)
    memory.begin_anew(incarnation(AT_MS + 9200))
    assert (memory.incarnation, memory.known.spent, memory.told(1)) == (incarnation(AT_MS), 50, (10, 0))


@pytest.mark.parametrize(("lasted_ms", "spent"), [(HEARD_MS - 1, 50), (HEARD_MS, 70)])
def test_an_account_that_was_whole_for_a_moment_only_is_told_of_by_nobody(memory, lasted_ms, spent) -> None:
    """Whoever heard that it was whole must decide as those do who didn't."""
    memory.begin_anew(incarnation(AT_MS + 9000))
    heard(memory, AT_MS + 9000, spent=70, told=12, settled_in_ms=-1)
    memory.begin_anew(incarnation(AT_MS + 9000 + lasted_ms))
    assert memory.known.spent == spent


def test_an_account_that_has_been_whole_for_long_is_remembered(memory) -> None:
    memory.begin_anew(incarnation(AT_MS + 9000))
    heard(memory, AT_MS + 9000, spent=70, told=12, settled_in_ms=SETTLE_MS - HEARD_MS)
    assert (memory.incarnation, memory.known.spent, memory.told(1)) == (incarnation(AT_MS + 9000), 70, (12, 10))


def test_a_redis_that_went_back_is_told_so_once(memory) -> None:
    heard(memory, AT_MS, spent=60, told=20, version=9)
    assert heard(memory, AT_MS, spent=55, told=20, settled_in_ms=400, version=7)
    assert not heard(memory, AT_MS, spent=55, told=20, settled_in_ms=300, version=8)
    assert (memory.known.spent, memory.known.version) == (60, 8)


def test_periods_that_are_over_are_forgotten(memory) -> None:
    memory.forget(lambda start_ms: start_ms == 1)
    assert memory.told(1) == (0, 0)
