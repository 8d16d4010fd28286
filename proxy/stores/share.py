"""What one sidecar has of one shared account: what it may use without asking, and what it has to tell and to ask.

Here: what all kinds of accounts have in common. Not here: their arithmetic (period_share.py, rate_share.py), when Redis is asked (sync.py).
Times with `_s` are those of the event loop: they never go back.
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import Sequence
from enum import Enum, auto

from proxy.spending import Hold, Line, Standing
from proxy.stores.redis_link import Reply, ScriptCall

FRESH_S = 1.0
"""How long it may be decided from what Redis said."""
LATE_S = 0.25
"""Over how long the pace is measured; what is drawn ahead and unused for as long is given back."""
FORGET_AFTER_S = 60.0
MAX_WAITERS_AT_ONCE = 256
NEVER_S = float("-inf")


class Verdict(Enum):
    """Whether a line fits, as far as this sidecar knows."""

    FITS = auto()
    SHORT = auto()
    ASK = auto()  # only Redis can tell


class Told(Enum):
    """What a call that waited is told."""

    ASKED = auto()  # Redis has answered with its need in mind
    OTHER_TIME = auto()  # its line is of a period that isn't the server's
    LOST = auto()


class Waiter:
    """A call that waits for what Redis says of a line."""

    __slots__ = ("line", "told")

    def __init__(self, line: Line, told: Future[Told]) -> None:
        self.line = line
        self.told = told


class ShareHold(Hold):
    """A hold, and the share it is of. Of a rate: when it has given back what was taken, and whether that had been drawn."""

    __slots__ = ("given_back_s", "share", "was_drawn")

    def __init__(self, line: Line, share: Share, given_back_s: float = 0.0, was_drawn: bool = True) -> None:
        self.line = line
        self.is_open = True
        self.share = share
        self.given_back_s = given_back_s
        self.was_drawn = was_drawn


class Share:
    """One account's part. Subclasses count."""

    ahead_s = LATE_S
    """For how long what is drawn ahead lasts, at the pace of late."""
    notices_loss = False
    """Whether its answers tell that Redis has forgotten something."""

    def __init__(self, key: str, line: Line, now_s: float) -> None:
        self.key = key
        self.ordinary_limit = line.ordinary_limit
        self.waiters: dict[Waiter, None] = {}  # in the order they came
        self.is_lost = False
        self.is_low = False  # what is kept ahead is to be given back
        self.is_needed = False  # somebody was short of late
        self.is_settling = False  # Redis has forgotten the account, and grants nothing until everybody has told of it
        self.is_unconfirmed = False  # Redis doesn't know whether what it granted is in use
        self.synced_s = NEVER_S
        self.used_s = now_s
        self._asked: list[Waiter] = []  # those the request under way speaks for
        self._demand = 0  # since the last request
        self._demand_since_s = now_s
        self._pace = 0.0  # amounts a second
        self._last_amount = 0

    def decide(self, line: Line, now_s: float, has_waited: bool) -> Verdict:
        """Whether the line fits. Who hasn't waited doesn't overtake those that do."""
        raise NotImplementedError

    def decide_alone(self, line: Line, now_s: float) -> Verdict:
        """Whether the line fits what was drawn, or what was known last, while Redis is lost."""
        raise NotImplementedError

    def hold(self, line: Line) -> ShareHold:
        """Hold the line's amount."""
        raise NotImplementedError

    def undo(self, hold: ShareHold) -> None:
        """Take back a hold of this very moment: another line didn't fit."""
        raise NotImplementedError

    def settle(self, hold: ShareHold, spent: int, now_s: float) -> None:
        """End a hold."""
        raise NotImplementedError

    def request(self, now_s: float) -> ScriptCall:
        """What Redis is told and asked now."""
        raise NotImplementedError

    def again(self, call: ScriptCall) -> ScriptCall:
        """The same once more, when no answer came."""
        return call

    def take(self, reply: Reply, sent_s: float, now_s: float) -> bool:
        """Take Redis's answer. True: the account was lost there, and begins anew."""
        raise NotImplementedError

    def standing(self, now_s: float) -> Standing | None:
        """How the account stands."""
        raise NotImplementedError

    def retry_after_ms(self, line: Line, now_ms: int, now_s: float) -> int | None:
        """When a line that is short may fit."""
        raise NotImplementedError

    @property
    def idle(self) -> int:
        """What is drawn and not in use."""
        raise NotImplementedError

    def may_fit(self, line: Line, now_s: float) -> bool:
        """Whether the line fits by what Redis said last, could it have what nobody uses."""
        raise NotImplementedError

    @property
    def is_busy(self) -> bool:
        """Whether Redis must go on hearing of it: something is held, or isn't told yet."""
        raise NotImplementedError

    def is_done(self, now_ms: int, now_s: float) -> bool:
        """Whether nothing is lost when it is forgotten."""
        raise NotImplementedError

    def is_unused(self, now_s: float, for_s: float = FORGET_AFTER_S) -> bool:
        """Whether Redis has all of it, and no call asked for it lately."""
        return not self.is_busy and not self.waiters and now_s - self.used_s > for_s

    # -- waiting ------------------------------------------------------------------------------------------------------

    def fail(self) -> None:
        """No answer came."""
        self.is_lost = True
        waiters = [*self.waiters]
        self.waiters.clear()
        _tell(waiters, Told.LOST)

    def _ask_for_waiters(self) -> list[Line]:
        """The lines whose turn it is."""
        self._asked = [waiter for waiter, _ in zip(self.waiters, range(MAX_WAITERS_AT_ONCE), strict=False)]
        return [waiter.line for waiter in self._asked]

    def _tell_waiters(self, told: Told) -> None:
        for waiter in self._asked:
            self.waiters.pop(waiter, None)
        _tell(self._asked, told)
        self._asked = []

    # -- drawing ahead ------------------------------------------------------------------------------------------------

    def _wanted_ahead(self, now_s: float) -> int:
        """How much to have ahead, by what was drawn of late; 0 where the account is low, or calls are too few to be worth it."""
        passed_s = now_s - self._demand_since_s
        if passed_s > 0:
            weight = min(1.0, passed_s / LATE_S)
            self._pace += weight * (self._demand / passed_s - self._pace)
            self._demand, self._demand_since_s = 0, now_s
        if self.is_low or now_s - self.used_s > LATE_S or self._pace * LATE_S < self._last_amount:
            return 0
        return int(self._pace * self.ahead_s)


def _tell(waiters: Sequence[Waiter], told: Told) -> None:
    for waiter in waiters:
        if not waiter.told.done():
            waiter.told.set_result(told)


def numbers(reply: Reply) -> list[int]:
    """The numbers of a script's answer, without its texts and lists."""
    return [value for value in reply if isinstance(value, int)]
