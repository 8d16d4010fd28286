"""When Redis is asked: one round trip at a time, for all accounts that have something to tell or to ask.

Here: batches, the one retry, what is done while Redis is lost, heartbeats, the server's time. Not here: what is said (period_share.py,
rate_share.py), how (redis_link.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from itertools import islice

from proxy.ports import Clock
from proxy.stores.redis_link import RedisLink, RedisLost, Reply
from proxy.stores.share import NEVER_S, Share, numbers

MAX_BATCH = 64
PACE_S = 0.01  # spending is told at most so often; a call that waits is asked for at once
IDLE_LOOK_S = 0.02
IDLE_S = 0.05  # so often a share with idle amounts hears whether somebody else needs them
HEARTBEAT_S = 0.2  # who knows anything speaks so often, to learn soon that Redis forgot: well within SETTLE_MS of lua/sync.lua
TICK_S = 0.25
PROBE_S = 1.0  # nobody waits for a probe
PROBES_AT_ONCE = 16
OTHERS_PER_TICK = 16  # shares with nothing to tell that are looked at: one that Redis lost is noticed
CLOSE_S = 1.0
MAX_LEFT = 2000
CANCEL_AGAIN_S = 0.1
NS_PER_MS = 1_000_000

_log = logging.getLogger("postern.store")


class Syncer:
    """Keeps shares and Redis in step. `all_shares` are those of the store."""

    def __init__(self, link: RedisLink, timeout_s: float, lease_s: float, clock: Clock, all_shares: Callable[[], list[Share]]) -> None:
        self._link = link
        self._timeout_s = timeout_s
        self._lease_s = lease_s
        self._clock = clock
        self._all_shares = all_shares
        self._urgent: dict[Share, None] = {}
        self._dirty: dict[Share, None] = {}
        self._idle: dict[Share, None] = {}
        self._lost: dict[Share, None] = {}
        self._busy: dict[Share, None] = {}
        self._rest: list[Share] = []  # to be looked at
        self._looked_s = self._heard_s = self._told_again_s = NEVER_S
        self._wake = asyncio.Event()
        self._hurry = asyncio.Event()
        self.is_lost = False
        self._is_doubtful = False  # a probe is to say whether it is lost
        self.offset_ms = 0  # the server's time less ours
        self.failures = 0

    # -- life ---------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Learn the server's time, if it answers; then go on by itself."""
        self._loop = asyncio.get_running_loop()
        await self._probe_time()
        self._tasks = [self._loop.create_task(self._for_ever(step)) for step in (self._sync_next, self._tick, self._beat)]

    async def close(self) -> None:
        """Tell Redis what it doesn't know, give everything back, drop the connections."""
        await self.stop()
        left = sorted(self._all_shares(), key=lambda share: not share.is_busy)[:MAX_LEFT]  # the others in case Redis has forgotten them
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._give_back(left)
                await self._give_back([share for share in left if share in self._dirty])  # Redis had forgotten them, and hears it now
        except TimeoutError:
            _log.warning("Redis didn't take what was left in time: what is held there is back when its lease ends")
        await self._link.close()

    async def _give_back(self, shares: list[Share]) -> None:
        self._dirty.clear()
        for share in shares:
            share.is_low = True  # nothing is kept
        for start in range(0, len(shares), MAX_BATCH):
            await self._sync(shares[start : start + MAX_BATCH], CLOSE_S)

    async def stop(self) -> None:
        """End what goes on by itself."""
        await end_tasks(self._tasks)

    async def _for_ever(self, step: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await step()
            except Exception:
                _log.exception("a fault in the shared store: it goes on")
                await asyncio.sleep(TICK_S)

    # -- what calls do ------------------------------------------------------------------------------------------------

    def ask(self, share: Share) -> None:
        """A call waits for this share."""
        self._urgent[share] = None
        self._hurry.set()
        self._wake.set()

    def tell(self, share: Share) -> None:
        """This share has something to tell."""
        self._busy[share] = None
        self._dirty[share] = None
        self._wake.set()

    def watch(self, share: Share) -> None:
        """Something is held in this share: its lease has to be renewed."""
        self._busy[share] = None

    # -- one round trip after the other -------------------------------------------------------------------------------

    async def _sync_next(self) -> None:
        await self._wait_for_work()
        self._wake.clear()
        self._hurry.clear()
        batch = self._next_batch()
        if batch:
            errors = await self._sync(batch, self._timeout_s, is_asked_again=True)
            if self._link.is_cluster and len(errors) == len(batch):
                self._is_doubtful = True  # they may all be on the one node that is away
            else:
                self._tell_loss(errors, len(batch))
            await asyncio.sleep(0)  # who waited takes what it got, before what isn't used is given back
        if self._urgent or len(self._dirty) >= MAX_BATCH:
            self._hurry.set()
        if self._dirty or self._urgent:
            self._wake.set()

    async def _wait_for_work(self) -> None:
        while not self._wake.is_set():
            if not self._idle:
                await self._wake.wait()
            elif not await _is_set_within(self._wake, IDLE_LOOK_S):
                self._look_at_idle()
        if self._loop.time() - self._looked_s >= IDLE_LOOK_S:  # other accounts keep us busy
            self._look_at_idle()
        if not self._hurry.is_set():
            await _is_set_within(self._hurry, PACE_S)

    def _look_at_idle(self) -> None:
        self._looked_s = now_s = self._loop.time()
        for share in [share for share in self._idle if now_s - share.synced_s >= IDLE_S]:
            del self._idle[share]
            if (share.idle or share.is_unconfirmed or share.is_settling) and not share.is_lost:
                self.tell(share)

    def _next_batch(self) -> list[Share]:
        batch = list(islice(self._urgent, MAX_BATCH))
        batch += islice((share for share in self._dirty if share not in self._urgent), MAX_BATCH - len(batch))
        for share in batch:
            self._urgent.pop(share, None)
            self._dirty.pop(share, None)
        for share in [share for share in batch if share.is_lost]:
            self._set_lost(share)
        return [share for share in batch if not share.is_lost]

    async def _sync(self, batch: list[Share], timeout_s: float, is_asked_again: bool = False) -> list[RedisLost]:
        """Tell and ask for these shares; those that get no answer are lost until a probe is answered: as many errors."""
        began_s = self._loop.time()
        calls = [share.request(began_s) for share in batch]
        again = [share.again(call) for share, call in zip(batch, calls, strict=True)] if is_asked_again else []
        replies = await self._link.run(calls, timeout_s, again)
        errors: list[RedisLost] = []
        for share, reply in zip(batch, replies, strict=True):
            if isinstance(reply, RedisLost):
                self.failures += 1
                errors.append(reply)
                self._set_lost(share)
            else:
                self._take(share, reply, began_s)
        return errors

    def _take(self, share: Share, reply: Reply, sent_s: float) -> None:
        self._set_time(numbers(reply)[0])
        self._lost.pop(share, None)
        before_s, now_s = share.synced_s, self._loop.time()
        if share.notices_loss:
            self._heard_s = now_s
        if share.take(reply, sent_s, now_s):
            self._dirty[share] = None
            if before_s >= self._told_again_s:
                self._tell_again()
        if share.waiters:
            self.ask(share)
        if (share.idle and share.is_low) or (share.is_unconfirmed and share.is_needed):
            self.tell(share)  # somebody else waits for it, or to hear that it is in use
        elif share.idle or share.is_unconfirmed or share.is_settling:
            if not self._idle:
                self._wake.set()  # a probe may have brought it: whoever waits for work has nothing idle to look at
            self._idle[share] = None

    def _tell_again(self) -> None:
        _log.warning("Redis has lost what it knew: it is told again")
        self._told_again_s = self._heard_s
        for share in sorted(self._all_shares(), key=lambda share: not share.is_busy):
            self._dirty[share] = None
        self._wake.set()

    def _set_time(self, server_ms: int) -> None:
        self.offset_ms = server_ms - self._clock.time_ns() // NS_PER_MS

    # -- Redis is lost ------------------------------------------------------------------------------------------------

    def _set_lost(self, share: Share) -> None:
        self._lost[share] = None
        share.fail()

    def _tell_loss(self, errors: list[RedisLost], asked: int) -> None:
        was_lost, self.is_lost = self.is_lost, len(errors) == asked
        self._is_doubtful = False
        if self.is_lost and not was_lost:
            _log.error("Redis is lost (%s): budgets and limits do as `on_store_lost` says", errors[0])
            for share in [*self._urgent]:
                self._set_lost(share)
            self._urgent.clear()
        elif was_lost and not self.is_lost:
            _log.warning("Redis is back")

    async def _beat(self) -> None:
        """Speak of any account, if nothing was heard for a while; of a cluster's accounts always, since each node may forget its own."""
        await asyncio.sleep(HEARTBEAT_S)
        if self.is_lost or (self._loop.time() - self._heard_s < HEARTBEAT_S and not self._link.is_cluster):
            return
        for _ in range(OTHERS_PER_TICK):
            share = self._next_of_the_rest()
            if share is not None and share.notices_loss and not share.is_lost:
                self._dirty[share] = None
                self._wake.set()
                break

    def _next_of_the_rest(self) -> Share | None:
        if not self._rest:
            self._rest = self._all_shares()
        return self._rest.pop() if self._rest else None

    async def _tick(self) -> None:
        """Probe what is lost, renew leases, look at some of the rest."""
        await asyncio.sleep(TICK_S)
        if self.is_lost or self._is_doubtful:
            await self._probe_time()
        if self._lost and not self.is_lost:
            await self._probe()
        now_s = self._loop.time()
        for share in [share for share in self._busy if now_s - share.synced_s >= self._lease_s / 3]:
            if share.is_busy:
                self.tell(share)
            else:
                del self._busy[share]
        for _ in range(OTHERS_PER_TICK):
            other = self._next_of_the_rest()
            if other is None:
                break
            if now_s - other.synced_s > self._lease_s / 3:
                self._dirty[other] = None
                self._wake.set()

    async def _probe(self) -> None:
        lost = list(islice(self._lost, PROBES_AT_ONCE))
        await self._sync(lost, PROBE_S)  # a cluster's node that is away doesn't make the others lost
        if any(not share.is_lost for share in lost):
            for share in [*self._lost]:
                if share not in lost:
                    share.is_lost = False
                    del self._lost[share]
                    self.tell(share)

    async def _probe_time(self) -> None:
        try:
            self._set_time(await self._link.server_ms(PROBE_S))
        except RedisLost as error:
            self.failures += 1
            self._tell_loss([error], 1)
        else:
            self._tell_loss([], 1)


async def end_tasks(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel tasks and wait for their end. A cancellation may get lost in the client (seen with redis 8.1.0): it is repeated."""
    running = {task for task in tasks if not task.done()}
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=CANCEL_AGAIN_S)


async def _is_set_within(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event, not for ever."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
