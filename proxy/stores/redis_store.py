"""The shared store: budgets and limits in Redis, of which each sidecar draws a part ahead. Port: BudgetStore.

Here: several lines at once, waiting for Redis, what is done without it. Not here: one account (period_share.py, rate_share.py), when
Redis is asked (sync.py).
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Sequence

import msgspec

from proxy.config.schema import StoreConfig
from proxy.ports import Clock
from proxy.spending import Answer, Entry, Fit, Hold, Line, Period, Rate, Reserved, Short, Shortage, Standing, StoreLost
from proxy.stores.account_memory import SETTLE_MS
from proxy.stores.patience import Patience
from proxy.stores.period_share import EPOCH_KEPT_MS, PeriodShare, keep_until_ms
from proxy.stores.rate_share import RateShare
from proxy.stores.redis_link import ClientLink, RedisLink, RedisLost, Script, ScriptCall
from proxy.stores.share import NEVER_S, Share, ShareHold, Told, Verdict, Waiter, numbers
from proxy.stores.sync import Syncer

PUT = Script("put.lua")
EPOCH = Script("epoch.lua")
PUT_S = 1.0
ASK_AGAIN_S = 0.015  # then less and less often: hundreds may wait
MOST_WAIT_S = 0.5
"""While Redis answers, a call waits so long for what others don't use: they give it back in 80 ms, unless their machine is busy."""
ATTEMPTS = 2
MAX_SHARES = 20_000
CROWDED_S = 1.0  # with more of them, those go that were unused for so long
NS_PER_MS = 1_000_000
FORGET_AT_A_TIME = 512

Place = tuple[str, int]
"""An account and, of a calendar's window, its beginning: each has a share of its own."""

ROLLING = -1
RATES = -2


class _Tried(msgspec.Struct, frozen=True):
    """What came of trying without asking; lines by their index."""

    answer: Answer | None  # None: only Redis can tell
    unsure: list[int]  # what it has to be asked for
    hopeless: list[int]  # of these, what can't fit by what it said last


class RedisStore:
    """One sidecar's view of the accounts it shares. `start` and `close` belong to the event loop. The URL's text is never told."""

    def __init__(self, config: StoreConfig, clock: Clock, link: RedisLink | None = None) -> None:
        timeout_s = config.timeout_ms / 1000
        self._clock = clock
        self._link = link or ClientLink(config.url.reveal() if config.url else "")
        self._prefix = config.prefix
        self._lease_s = config.lease_s
        self._max_wait_s = ATTEMPTS * timeout_s
        self._patience = Patience()
        self._sidecar = secrets.token_hex(8)
        self._shares: dict[Place, Share] = {}
        self._number = 0  # of shares made
        self._to_look_at: list[Place] = []
        self._epoch_keys = () if self._link.is_cluster else (f"{config.prefix}:epoch",)  # a cluster's script has all its keys in one slot
        self._syncer = Syncer(self._link, timeout_s, config.lease_s, clock, self._shares_in_use)

    async def start(self) -> None:
        """Connect, if Redis is there; readiness doesn't depend on it. A Redis that is new is let settle first."""
        self._time = asyncio.get_running_loop().time
        await self._syncer.start()
        if self._epoch_keys and not self.is_lost:
            await asyncio.sleep(max(0, SETTLE_MS - await self._age_ms()) / 1000)

    async def _age_ms(self) -> int:
        """How long ago Redis began; as long as need be, if it doesn't say."""
        (reply,) = await self._link.run([ScriptCall(EPOCH, self._epoch_keys, [EPOCH_KEPT_MS])], PUT_S)
        return SETTLE_MS if isinstance(reply, RedisLost) else numbers(reply)[0]

    async def close(self) -> None:
        """Give everything back."""
        await self._syncer.close()

    def health(self) -> dict[str, object]:
        """How it is doing, for /status."""
        return {"kind": "redis", "is_lost": self.is_lost, "failures": self._syncer.failures}

    @property
    def is_lost(self) -> bool:
        """Whether Redis doesn't answer."""
        return self._syncer.is_lost

    # -- port ---------------------------------------------------------------------------------------------------------

    def now_ms(self, now_ms: int) -> int:
        return now_ms + self._syncer.offset_ms

    def reserve(self, lines: Sequence[Line], now_ms: int) -> Answer | None:
        return self._try(lines, now_ms, has_waited=False, is_alone=False).answer

    async def ask(self, lines: Sequence[Line], now_ms: int) -> Answer:
        with self._patience.ticking():
            return await self._asked(lines, now_ms, self._patience.now_s)

    async def _asked(self, lines: Sequence[Line], now_ms: int, began_s: float) -> Answer:
        asked: set[int] = set()  # lines that Redis has answered for
        pause_s = ASK_AGAIN_S
        unheard = [(index, line) for index, line in enumerate(lines) if line.fit is Fit.NOTHING and self._is_unheard_of(self._share(line))]
        if unheard:  # it fits, but who asks wants to know how it stands
            await self._wait(unheard, began_s + self._max_wait_s)
        while True:
            tried = self._try(lines, now_ms, has_waited=bool(asked), is_alone=False)
            if tried.answer is not None:
                return tried.answer
            unsure = tried.unsure
            hopeless = [index for index in tried.hopeless if index in asked]
            if hopeless:
                return self._short(lines, hopeless, now_ms)
            if asked.issuperset(unsure):
                if not await self._pause(pause_s, self._until_s(lines, unsure, began_s)):
                    return self._after_waiting(lines, unsure, asked, now_ms)
                pause_s *= 2
            silent_since_s = self._patience.now_s if asked else began_s
            told = await self._wait(self._to_ask(lines, unsure), silent_since_s + self._max_wait_s)
            if told is None:
                return self._after_waiting(lines, unsure, asked, now_ms)
            if Told.OTHER_TIME in told.values():
                others = [index for index, what in told.items() if what is Told.OTHER_TIME]
                return Short([Shortage(index, self._standing(lines[index]), 0) for index in others])
            asked.update(index for index, what in told.items() if what is Told.ASKED)

    def _to_ask(self, lines: Sequence[Line], unsure: list[int]) -> list[tuple[int, Line]]:
        """All lines of accounts that must be asked, and of those where what was granted isn't kept while others are waited for."""
        shares = {self._share(lines[index]) for index in unsure}
        return [(index, line) for index, line in enumerate(lines) if (share := self._share(line)) in shares or share.is_low]

    def _until_s(self, lines: Sequence[Line], unsure: list[int], began_s: float) -> float:
        """How long others may be waited for: for an account that Redis has forgotten, no longer than for Redis."""
        is_settling = any(self._share(lines[index]).is_settling for index in unsure)
        return began_s + (self._max_wait_s if is_settling else max(MOST_WAIT_S, self._max_wait_s))

    def settle(self, hold: Hold, spent: int, now_ms: int) -> None:
        if not hold.is_open or not isinstance(hold, ShareHold):
            return
        hold.is_open = False
        hold.share.settle(hold, spent, self._time())
        self._syncer.tell(hold.share)

    def standing(self, account: str, window: Period | Rate, now_ms: int) -> Standing | None:
        share = self._shares.get(_place(account, window))
        return share.standing(self._time()) if share else None

    # -- deciding -----------------------------------------------------------------------------------------------------

    def _try(self, lines: Sequence[Line], now_ms: int, *, has_waited: bool, is_alone: bool) -> _Tried:
        """Hold all lines, or none."""
        now_s = self._time()
        holds: list[ShareHold] = []
        unsure: list[int] = []
        hopeless: list[int] = []
        short: list[int] = []
        answer: Answer | None = None
        for index, line in enumerate(lines):
            share = self._share(line)
            share.used_s = now_s
            if is_alone or share.is_lost or self._syncer.is_lost:
                if line.on_store_lost == "closed":
                    answer = answer or StoreLost(index)
                is_open = line.on_store_lost == "open"
                verdict = Verdict.FITS if is_open else share.decide_alone(line, now_s)
            else:
                verdict = share.decide(line, now_s, has_waited)
            if verdict is Verdict.FITS:
                holds.append(share.hold(line))
            elif verdict is Verdict.SHORT:
                short.append(index)
            else:
                unsure.append(index)
                if not share.may_fit(line, now_s):
                    hopeless.append(index)
        if answer is None and short:
            answer = self._short(lines, short, now_ms)
        if answer is not None or unsure:
            _undo(holds)
            return _Tried(answer, unsure, hopeless)
        for hold in holds:
            self._syncer.watch(hold.share)
        return _Tried(Reserved([*holds]), [], [])

    def _short(self, lines: Sequence[Line], indexes: Sequence[int], now_ms: int) -> Short:
        now_s = self._time()
        return Short(
            [
                Shortage(
                    index,
                    self._standing(lines[index]),
                    share.retry_after_ms(lines[index], now_ms, now_s),
                    is_store_lost=self._syncer.is_lost or share.is_lost or share.is_settling,
                )
                for index, share in ((index, self._share(lines[index])) for index in indexes)
            ]
        )

    def _standing(self, line: Line) -> Standing:
        return self._share(line).standing(self._time()) or Standing(0, 0)

    def _is_unheard_of(self, share: Share) -> bool:
        return share.synced_s == NEVER_S and not share.is_lost and not self._syncer.is_lost

    def _after_waiting(self, lines: Sequence[Line], unsure: list[int], asked: set[int], now_ms: int) -> Answer:
        """No time is left: what Redis said counts; of what it didn't, or has forgotten, as if it were lost."""
        is_known = asked.issuperset(unsure) and not any(self._share(lines[index]).is_settling for index in unsure)
        tried = self._try(lines, now_ms, has_waited=True, is_alone=not is_known)  # what was granted may have come just now
        return tried.answer or self._short(lines, unsure, now_ms)

    # -- waiting ------------------------------------------------------------------------------------------------------

    async def _pause(self, pause_s: float, until_s: float) -> bool:
        """Others are to give back what they don't use: wait a little. False: there is no time left for it."""
        left_s = until_s - self._patience.now_s
        if left_s < ASK_AGAIN_S:
            return False
        await asyncio.sleep(min(pause_s, left_s))
        return True

    async def _wait(self, lines: list[tuple[int, Line]], deadline_s: float) -> dict[int, Told] | None:
        """What Redis says of each line; None: nothing in time."""
        loop = asyncio.get_running_loop()
        waiting: list[tuple[int, Share, Waiter]] = []
        for index, line in lines:
            share, waiter = self._share(line), Waiter(line, loop.create_future())
            waiting.append((index, share, waiter))
            share.waiters[waiter] = None
            self._syncer.ask(share)
        try:
            async with self._patience.until(deadline_s):
                return {index: await waiter.told for index, _, waiter in waiting}
        except TimeoutError:
            if any(waiter.told.cancelled() or not waiter.told.done() for _, _, waiter in waiting):
                return None
            return {index: waiter.told.result() for index, _, waiter in waiting}  # it came in the same turn of the loop
        finally:
            for _, share, waiter in waiting:
                share.waiters.pop(waiter, None)

    # -- shares -------------------------------------------------------------------------------------------------------

    def _share(self, line: Line) -> Share:
        window = line.window
        place = _place(line.account, window)
        share = self._shares.get(place)
        if share is None:
            share = self._shares[place] = self._open(line)
            self._forget_some()
        elif isinstance(share, PeriodShare) and isinstance(window, Period):
            share.enter(window)
        elif isinstance(share, RateShare) and isinstance(window, Rate):
            share.rate = window
        share.ordinary_limit = line.ordinary_limit
        return share

    def _open(self, line: Line) -> Share:
        self._number += 1
        window, now_s = line.window, self._time()
        if isinstance(window, Rate):
            return RateShare(self._key(line.account, "~"), line, window, now_s)
        return PeriodShare(self._key(line.account), f"{self._sidecar}.{self._number}", line, window, self._lease_s, now_s, self._epoch_keys)

    def _shares_in_use(self) -> list[Share]:
        """All but those that are done, which go."""
        now_s, now_ms = self._time(), self.now_ms(self._clock.time_ns() // NS_PER_MS)
        for place in [place for place, share in self._shares.items() if share.is_done(now_ms, now_s)]:
            del self._shares[place]
        return [*self._shares.values()]

    def _forget_some(self) -> None:
        """Look at some shares whenever one is made: those that are done go, and the stalest if there are too many."""
        if not self._to_look_at:
            self._to_look_at = list(self._shares)
        now_s, now_ms = self._time(), self.now_ms(self._clock.time_ns() // NS_PER_MS)
        for place in self._to_look_at[-FORGET_AT_A_TIME:]:
            share = self._shares.get(place)
            if share and (share.is_done(now_ms, now_s) or (len(self._shares) > MAX_SHARES and share.is_unused(now_s, CROWDED_S))):
                del self._shares[place]
        del self._to_look_at[-FORGET_AT_A_TIME:]

    # -- what operators do --------------------------------------------------------------------------------------------

    def _key(self, account: str, kind: str = ":") -> str:
        """All keys of an account are in one slot of a cluster: that of the text in braces."""
        return f"{self._prefix}{kind}{{{account.replace('%', '%25').replace('{', '%7B').replace('}', '%7D')}}}"

    async def accounts(self) -> list[Entry]:
        """Every account, period by period. Raises RedisLost."""
        limits = {account: share.ordinary_limit for (account, _), share in self._shares.items()}
        pattern = re.sub(r"([*?\[\]\\^-])", r"\\\1", self._prefix) + ":{*}"
        found: list[Entry] = []
        async for key in self._link.keys(pattern):
            account = key[len(self._prefix) + 2 : -1].replace("%7B", "{").replace("%7D", "}").replace("%25", "%")
            found += _entries(account, await self._link.fields(key), limits.get(account))
        return found

    async def put_spent(self, account: str, period: Period, spent: int) -> None:
        """Set what counts as spent in the period's window; what is reported later comes on top. Raises RedisLost."""
        arguments: list[str | int] = [period.start_ms, period.counts_from_ms, keep_until_ms(period), spent, secrets.token_hex(8)]
        (reply,) = await self._link.run([ScriptCall(PUT, [self._key(account)], arguments)], PUT_S)
        if isinstance(reply, Exception):
            raise reply
        share = self._shares.get(_place(account, period))
        if share is not None:
            share.synced_s = NEVER_S  # what it knows is no longer so


def _undo(holds: list[ShareHold]) -> None:
    for hold in holds:
        hold.is_open = False
        hold.share.undo(hold)


def _place(account: str, window: Period | Rate) -> Place:
    if isinstance(window, Rate):
        return account, RATES
    return account, window.start_ms if window.start_ms == window.counts_from_ms else ROLLING


def _entries(account: str, fields: dict[str, str], limit: int | None) -> list[Entry]:
    """What a hash of lua/sync.lua says."""
    spent = {int(name[1:]): int(value.split()[0]) for name, value in fields.items() if name[0] == "s"}
    held: dict[int, int] = {}
    for name, value in fields.items():
        if name[0] == "h":
            amount, _, _, start_ms, _ = value.split()
            held[int(start_ms)] = held.get(int(start_ms), 0) + int(amount)
    return [Entry(account, start, spent.get(start, 0), held.get(start, 0), limit) for start in sorted(spent.keys() | held.keys())]
