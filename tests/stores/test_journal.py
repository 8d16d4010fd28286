"""The journal: what is in it can be read whatever was being written, and room is made only for what SQLite has."""

from __future__ import annotations

import pytest

from proxy.stores.journal import Journal, Spending

ID = bytes(16)


def entry(sequence: int) -> Spending:
    return Spending(sequence, f"day:usd:tenant=t{sequence % 7}", 1000, 2000, sequence * 3)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal"


def test_entries_are_read_back_in_order(path) -> None:
    journal = Journal(path)
    journal.clear(ID)
    assert all(journal.append(entry(number), 0) for number in range(1, 100))
    journal.close()
    again = Journal(path)
    assert again.database_id == ID
    assert again.entries() == [entry(number) for number in range(1, 100)]
    again.close()


def test_a_full_journal_takes_more_only_when_a_half_is_applied(path) -> None:
    journal = Journal(path, 1000)
    journal.clear(ID)
    last = 0
    while journal.append(entry(last + 1), 0):
        last += 1
    assert [each.sequence for each in journal.entries()] == list(range(1, last + 1))
    assert not journal.append(entry(last + 2), 1)
    assert journal.append(entry(last + 2), last)
    assert journal.entries()[-1] == entry(last + 2)
    journal.close()


def test_rounds_through_a_small_journal_leave_nothing_unapplied_behind(path) -> None:
    journal = Journal(path, 1000)
    journal.clear(ID)
    for number in range(1, 500):
        assert journal.append(entry(number), number - 3)
        unapplied = [each for each in journal.entries() if each.sequence > number - 3]
        assert unapplied == [entry(each) for each in range(max(1, number - 2), number + 1)]
    journal.close()


@pytest.mark.parametrize("at", [0, 3, 8, 20, 45])
def test_a_half_written_entry_ends_the_journal(path, at) -> None:
    journal = Journal(path)
    journal.clear(ID)
    journal.append(entry(1), 0)
    begin = journal._at
    journal.append(entry(2), 0)
    journal._map[begin + at] ^= 0xFF
    assert journal.entries() == [entry(1)]
    journal.close()


def test_what_was_cleared_is_not_read_again(path) -> None:
    journal = Journal(path)
    journal.clear(ID)
    for number in range(1, 10):
        journal.append(entry(number), 0)
    journal.clear(ID)
    assert journal.entries() == []
    journal.append(entry(10), 9)
    assert journal.entries() == [entry(10)]
    journal.close()
