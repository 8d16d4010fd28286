"""Checks of what a rule does with a call: its strategy, the lists of targets it chooses from, failover, changes of the request.

Here: what is wrong, as paths and messages, which never repeat a value: it may be secret. Not here: types and ranges (convert.py,
values.py), whether targets exist, how problems are reported (check.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from proxy.call import LABELS
from proxy.config.endpoints import header_name_message
from proxy.config.nodes import join_key
from proxy.config.schema import (
    ExperimentConfig,
    FailoverConfig,
    HedgeConfig,
    MirrorConfig,
    ModelConfig,
    RequestConfig,
    RouteConfig,
    TargetChoice,
)

Sound = Callable[[str], bool]
"""Whether the conversion left what stands at a path as it was written."""

SHARES_DIFFER_BY = 1e-6  # 33.3333% three times is taken as a whole
BY_WEIGHT = frozenset({"weighted", "sticky"})
"""Strategies that go by `weight`."""

STICKY_BY = "an identity label, key, model or header:NAME"
STICKY_BY_HEADER = "header:"

NOT_CHANGED: dict[str, str] = {
    "model": "a target has its own name for the model as `{target: …, model: …}`",
    "stream": "the client waits for the kind of reply that it asked for",
    **dict.fromkeys(("messages", "input", "prompt", "contents"), "what is said in a call is not changed by a rule"),
}
"""Members of a request that no rule may set, clamp or drop, and why."""

_HEDGE_AFTER = re.compile(r"p[5-9][0-9]|[0-9]{1,6}(\.[0-9]{1,6})?m?s")
_MEMBER = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


def strategy_problems(path: str, choices_key: str, rule: RouteConfig | ModelConfig, sound: Sound) -> Iterator[tuple[str, str]]:
    """What is wrong with how a rule at `path` chooses from the targets it names under `choices_key`."""
    choices = rule.to if isinstance(rule, RouteConfig) else rule.targets
    yield from repeats(f"{path}.{choices_key}", choices, sound)
    if not (sound(f"{path}.strategy") and sound(f"{path}.sticky_by")):
        return
    if rule.strategy == "sticky" and rule.sticky_by is None:
        yield f"{path}.strategy", f"sticky needs `sticky_by`: {STICKY_BY}"
    elif rule.sticky_by is not None and (message := _sticky_by_message(rule.sticky_by)):
        yield f"{path}.sticky_by", message
    if rule.strategy in BY_WEIGHT and choices and sound(f"{path}.{choices_key}") and not any(choice.weight for choice in choices):
        yield f"{path}.{choices_key}", f"has weight 0 only: `{rule.strategy}` needs one that is more"


def repeats(path: str, choices: Sequence[TargetChoice], sound: Sound) -> Iterator[tuple[str, str]]:
    """Entries of a list that name the same target and model as one before them."""
    first: dict[tuple[str, str | None], int] = {}
    for index, choice in enumerate(choices):
        earlier = first.setdefault((choice.target, choice.model), index)
        if earlier != index and sound(f"{path}[{index}]") and sound(f"{path}[{earlier}]"):
            yield f"{path}[{index}]", f"is the same as {path}[{earlier}]: name it once"


def _sticky_by_message(sticky_by: str) -> str | None:
    if sticky_by in (*LABELS, "model"):
        return None
    if sticky_by.startswith(STICKY_BY_HEADER):
        message = header_name_message(sticky_by.removeprefix(STICKY_BY_HEADER))
        return message and f"what follows `{STICKY_BY_HEADER}` {message}"
    return f"must be {STICKY_BY}"


def experiment_problems(path: str, experiment: ExperimentConfig, sound: Sound) -> Iterator[tuple[str, str]]:
    """What is wrong with a route's `experiment`."""
    if sound(f"{path}.by") and (message := _sticky_by_message(experiment.by)):
        yield f"{path}.by", message
    if not sound(f"{path}.arms"):
        return
    total = sum(experiment.arms.values())
    if len(experiment.arms) < 2:
        yield f"{path}.arms", "must name two arms at least"
    elif "" in experiment.arms:
        yield f"{path}.arms", "has an arm without a name"
    elif abs(total - 1) > SHARES_DIFFER_BY:
        yield f"{path}.arms", f"must add up to 100%, and come to {total:.4%}"


def failover_problems(path: str, failover: FailoverConfig, sound: Sound) -> Iterator[tuple[str, str]]:
    """What is wrong with a route's `failover`."""
    if sound(f"{path}.on"):
        if not failover.on:
            yield f"{path}.on", "is empty: give `attempts: 1` where nothing is to be tried again"
        elif len(set(failover.on)) < len(failover.on):
            yield f"{path}.on", "names a fault twice"
    backoff = failover.backoff
    if backoff.first_ms > backoff.max_s * 1000 and sound(f"{path}.backoff"):
        yield f"{path}.backoff", f"begins with {backoff.first_ms / 1000:g} s, which is more than `max_s` ({backoff.max_s:g} s)"
    if failover.continue_midstream and failover.attempts < 2 and sound(f"{path}.continue_midstream"):
        yield f"{path}.continue_midstream", "needs `attempts` of 2 at least: to go on is one of them"
    yield from repeats(f"{path}.context_window_to", failover.context_window_to, sound)
    yield from repeats(f"{path}.content_filter_to", failover.content_filter_to, sound)


def hedge_problems(path: str, hedge: HedgeConfig, route: RouteConfig, sound: Sound) -> Iterator[tuple[str, str]]:
    """What is wrong with a route's `hedge`."""
    if sound(f"{path}.after") and _HEDGE_AFTER.fullmatch(hedge.after) is None:
        yield f"{path}.after", "must be p50 to p99, of the route's waits so far, or a time such as 300ms or 1.5s"
    if route.failover is not None and route.failover.attempts < 2:
        yield path, "needs `failover.attempts` of 2 at least: the hedge is one of them"


def mirror_problems(path: str, mirror: MirrorConfig, sound: Sound) -> Iterator[tuple[str, str]]:
    """What is wrong with a route's `mirror`."""
    if not mirror.to and sound(f"{path}.to"):
        yield f"{path}.to", "names no target"
    yield from repeats(f"{path}.to", mirror.to, sound)


def request_problems(path: str, request: RequestConfig) -> Iterator[tuple[str, str]]:
    """What is wrong with a `request` section of a route or a target. Upper and lower case are one: some providers' parsers take either."""
    told: dict[str, str] = {}
    for change, members in (("set", list(request.set)), ("clamp", list(request.clamp)), ("drop", request.drop)):
        for index, member in enumerate(members):
            at = f"{path}.drop[{index}]" if change == "drop" else join_key(f"{path}.{change}", member)
            earlier = told.setdefault(member.lower(), change)
            if message := _member_message(member):
                yield at, message
            elif earlier != change:
                yield at, f"is under `{earlier}` too: only one thing can be done with a member"
            elif member.lower() in (other.lower() for other in members[:index]):
                yield at, "is named twice"


def _member_message(member: str) -> str | None:
    if why := NOT_CHANGED.get(member.lower()):
        return f"can't be changed: {why}"
    return None if _MEMBER.fullmatch(member) else "is not the name of a member at the top level of a request's JSON body"
