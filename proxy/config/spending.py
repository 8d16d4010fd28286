"""Checks of `budgets`, `limits` and `store`: names, scopes, windows, rates, what follows where one is short, addresses.

Here: what is wrong, as paths and messages, which never repeat a value: it may be secret. Not here: types and ranges (convert.py,
values.py), matches (matches.py), whether targets exist, how problems are reported (check.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from urllib.parse import SplitResult, parse_qsl, urlsplit

from proxy.call import LABELS
from proxy.config.endpoints import header_name_message
from proxy.config.matches import is_zone
from proxy.config.rules import Sound, repeats
from proxy.config.schema import BudgetConfig, BudgetWindow, Config, LimitConfig, StoreConfig, WhenShort
from proxy.config.telemetry import CREDENTIAL_FIELDS
from proxy.config.values import LARGEST_COUNT, LARGEST_USD

Hint = Callable[[str, str, Collection[str]], str]
"""` (did you mean 'x'?)` for the name that stands at a path; "" where none is near, or it is secret."""

PLACES = ("model", "provider", "target")
HEADER = "header:"
PER = (*LABELS, *PLACES, "header:NAME")
"""What `per` may name."""

UTC = "UTC"
"""The zone that needs no data to be known."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
PREFIX = re.compile(r"[A-Za-z0-9._:-]{1,64}")
RATE = re.compile(r"([0-9]{1,12}(?:_[0-9]{1,12}){0,9})/(?:s|sec|min|h|hour|day)")
"""A rate, as policy/limits.py reads it."""
MAX_RATE = 10**9

SENTINEL, CLUSTER, TLS = "+sentinel", "+cluster", "rediss"
SCHEMES = ("redis", "rediss", f"redis{CLUSTER}", f"rediss{CLUSTER}", f"redis{SENTINEL}", f"rediss{SENTINEL}")
TLS_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname", "ssl_cert_reqs")
"""What may stand behind the `?` of a URL; to the client of Redis any other is a fault, or turns off what Postern has set."""


def spending_problems(config: Config, sound: Sound, hint: Hint) -> Iterator[tuple[str, str]]:
    """What is wrong with budgets, limits and the store they are remembered in."""
    yield from _names(config)
    for index, budget in enumerate(config.budgets):
        path = f"budgets[{index}]"
        yield from _per(path, budget.per, config, hint)
        yield from _budget(path, budget, sound)
    for index, limit in enumerate(config.limits):
        path = f"limits[{index}]"
        yield from _per(path, limit.per, config, hint)
        yield from _limit(path, limit, sound)
    yield from _store(config.store, sound)


def _names(config: Config) -> Iterator[tuple[str, str]]:
    """Accounts are named by their rule: so names are plain, and budgets and limits have none in common."""
    first: dict[str, str] = {}
    rules: list[tuple[str, BudgetConfig | LimitConfig]] = [(f"budgets[{index}]", budget) for index, budget in enumerate(config.budgets)]
    rules += [(f"limits[{index}]", limit) for index, limit in enumerate(config.limits)]
    for path, rule in rules:
        earlier = first.setdefault(rule.name, path)
        if not rule.name:
            yield f"{path}.name", "must not be empty"
        elif not NAME.fullmatch(rule.name):
            yield f"{path}.name", "must be letters, digits, `.`, `_` and `-`, begin with a letter or a digit, and have at most 64 of them"
        elif earlier != path:
            yield f"{path}.name", f"is the name of {earlier} too: names of budgets and limits must differ"


def _per(path: str, per: list[str], config: Config, hint: Hint) -> Iterator[tuple[str, str]]:
    spelt = [name.lower() if name.startswith(HEADER) else name for name in per]  # headers are without case
    for index, name in enumerate(spelt):
        at = f"{path}.per[{index}]"
        if message := _scope_message(name, config):
            yield at, f"{message}{hint(at, name, PER)}" if message.startswith("must") else message
        elif name in spelt[:index]:
            yield at, "is named twice"


def _scope_message(name: str, config: Config) -> str | None:
    if name.startswith(HEADER):
        header = name.removeprefix(HEADER)
        if header in CREDENTIAL_FIELDS:
            return "holds credentials, which are not recorded: name virtual keys under `keys`, and count per `key`"
        message = header_name_message(header)
        return message and f"what follows `{HEADER}` {message}"
    if name == "key":
        return None if config.needs_keys else "is nothing that a call has: there are no `keys`"
    if name in LABELS:
        return None if getattr(config.identity, name) else f"is nothing that a call has: `identity.{name}` is empty"
    return None if name in PLACES else f"must be one of {', '.join(PER)}"


# ------------------------------------------------------------------------------------------------------------ budgets


def _budget(path: str, budget: BudgetConfig, sound: Sound) -> Iterator[tuple[str, str]]:
    if sound(f"{path}.window"):
        yield from _window(f"{path}.window", budget.window)
    if sound(f"{path}.limit"):
        yield from _amounts(path, budget)
    if budget.match.budget_used is not None:
        yield f"{path}.match.budget_used", "can't stand in a budget's own match: it is for routes"
    for index, share in enumerate(budget.warn_at):
        if share == 0:
            yield f"{path}.warn_at[{index}]", "must be more than 0"
        elif share in budget.warn_at[:index]:
            yield f"{path}.warn_at[{index}]", "is named twice"
    if sound(f"{path}.when_short"):
        yield from _when_short(f"{path}.when_short", budget.when_short)
    yield from repeats(f"{path}.when_short.degrade_to", budget.when_short.degrade_to, sound)
    if budget.cut and sound(path):
        yield from _cut(f"{path}.cut", budget)


def _window(path: str, window: BudgetWindow) -> Iterator[tuple[str, str]]:
    if window.every is None and window.rolling_s is None:
        yield path, "must say how long it is: give `every` (minute, hour, day, week, month) or `rolling_s`"
    elif window.every is not None and window.rolling_s is not None:
        yield path, "has `every` and `rolling_s`: leave one of them out"
    elif window.rolling_s is not None and window.time_zone != UTC:
        yield f"{path}.time_zone", "does nothing beside `rolling_s`: leave it out"
    elif window.time_zone != UTC and not is_zone(window.time_zone):
        yield f"{path}.time_zone", "is no time zone that this machine knows: a name such as Europe/Berlin is wanted"


def _amounts(path: str, budget: BudgetConfig) -> Iterator[tuple[str, str]]:
    limit = budget.limit
    most = {"usd": (limit.usd, LARGEST_USD), "tokens": (limit.tokens, LARGEST_COUNT), "requests": (limit.requests, LARGEST_COUNT)}
    if all(amount is None for amount, _ in most.values()):
        yield f"{path}.limit", "must name a limit: usd, tokens, requests, or several of these"
    for unit, (amount, largest) in most.items():
        if amount is not None and amount * budget.critical_multiplier > largest:
            yield f"{path}.critical_multiplier", f"makes more than {largest:.0f} of `limit.{unit}`, which is more than can be counted"


def _when_short(path: str, when_short: WhenShort) -> Iterator[tuple[str, str]]:
    if when_short.refuse + bool(when_short.degrade_to) + when_short.allow != 1:
        yield path, "must say one thing: `refuse: true`, `degrade_to: […]` or `allow: true`"


def _cut(path: str, budget: BudgetConfig) -> Iterator[tuple[str, str]]:
    if budget.limit.usd is None and budget.limit.tokens is None:
        yield path, "needs a limit of usd or tokens: requests can't be cut short"
    elif budget.spend != "strict":
        yield path, "needs `spend: strict`: only there is a stream's upper bound held"
    elif budget.when_short.allow:
        yield path, "does nothing beside `allow`, which lets every call through to its end"


# ------------------------------------------------------------------------------------------------------ limits, store


def _limit(path: str, limit: LimitConfig, sound: Sound) -> Iterator[tuple[str, str]]:
    rates = {"requests": limit.requests, "tokens": limit.tokens}
    is_known = all(sound(f"{path}.{key}") for key in (*rates, "concurrency"))
    if is_known and limit.concurrency is None and all(rate is None for rate in rates.values()):
        yield path, "limits nothing: give requests, tokens, concurrency, or several of these"
    for key, rate in rates.items():
        if rate is not None and not _is_rate(rate):
            yield f"{path}.{key}", "must be a rate such as 100/min: a whole number up to a billion, then /s, /min, /h or /day"
    if limit.match.budget_used is not None:
        yield f"{path}.match.budget_used", "can't stand in a limit's match: it is for routes"


def _is_rate(text: str) -> bool:
    match = RATE.fullmatch(text)
    return match is not None and 1 <= int(match[1]) <= MAX_RATE


def _store(store: StoreConfig, sound: Sound) -> Iterator[tuple[str, str]]:
    if not PREFIX.fullmatch(store.prefix):
        yield "store.prefix", "must be 1 to 64 letters, digits, `.`, `_`, `:` and `-`"
    if not (sound("store.kind") and sound("store.url")):
        return
    if store.keys and store.kind != "redis":
        yield "store.keys", "needs `kind: redis`: the keys of one sidecar alone stand under `keys`"
    if not store.url:
        if store.kind == "redis":
            yield "store.url", "is required with `kind: redis`"
    elif store.kind == "embedded":
        yield "store.url", "does nothing with `kind: embedded`, which is in `state_dir`: leave it out, or say `kind: redis`"
    elif message := _url_message(store.url.reveal()):
        yield "store.url", message


def _url_message(url: str) -> str | None:
    """What is wrong with the address of a Redis, in words that tell nothing of it: there is a password in it."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "is no URL"
    if parts.scheme not in SCHEMES:
        return f"must begin with one of {', '.join(f'{scheme}://' for scheme in SCHEMES)}"
    if not parts.netloc.rpartition("@")[2]:
        return "names no host"
    if any(not _is_host(host) for host in parts.netloc.rpartition("@")[2].split(",")):
        return "names a host, or a port, that can't be one"
    return _path_message(parts) or _options_message(parts)


def _is_host(text: str) -> bool:
    """Whether a text is a host, alone or with its port."""
    try:
        parts = urlsplit(f"//{text}")
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _path_message(parts: SplitResult) -> str | None:
    """A database's number may follow; a Sentinel's master comes before it."""
    names = parts.path.strip("/").split("/") if parts.path.strip("/") else []
    if parts.scheme.endswith(SENTINEL):
        if not names:
            return "must name the master behind the Sentinels: redis+sentinel://host:port,host:port/MASTER"
        names = names[1:]
    elif "," in parts.netloc.rpartition("@")[2] and "+" not in parts.scheme:
        return "names several hosts: that is redis+cluster:// or redis+sentinel://"
    if len(names) > 1 or not all(name.isdecimal() for name in names):
        return "must end with the number of a database, or nothing"
    if parts.scheme.endswith(CLUSTER) and any(int(name) for name in names):
        return "names a database: a cluster has none but 0"
    return None


def _options_message(parts: SplitResult) -> str | None:
    if parts.fragment:
        return "has a `#`, and what follows it counts for nothing: in a password it is written %23"
    options = parse_qsl(parts.query, keep_blank_values=True)
    if parts.query and (parts.scheme.endswith(SENTINEL) or not parts.scheme.startswith(TLS)):
        return f"has options behind a `?`: they are for {TLS}:// and {TLS}{CLUSTER}://"
    if any(name not in TLS_OPTIONS for name, _ in options):
        return f"has an option that isn't one of {', '.join(TLS_OPTIONS)}"
    return None if all(value for _, value in options) else "has an option without a value"
