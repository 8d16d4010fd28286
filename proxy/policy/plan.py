"""The plan of a call: which targets are asked in which order, and why the others aren't.

Here: from a rule's targets and what is known of them to an ordered list, as a value that can be shown. Not here: which rule (routing.py),
what happens when one fails (retry.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from proxy.config.schema import Strategy
from proxy.policy.order import Candidate, Chance, order


class Choice(msgspec.Struct, frozen=True):
    """A target that a rule names."""

    target: str
    model: str | None = None  # sent upstream instead of the client's
    weight: float = 1.0


class Group(msgspec.Struct, frozen=True):
    """Targets with a strategy: a rule's `to`, or an alias of `models:` that stands in one."""

    members: tuple[Choice | Group, ...]
    strategy: Strategy = "priority"
    weight: float = 1.0
    alias: str | None = None
    sticky_by: str | None = None


class Abilities(msgspec.Struct, frozen=True):
    """What a target's model can do. None = not known, which is no reason to leave it out."""

    context_window: int | None = None  # tokens, input and output together
    lacks: frozenset[str] = frozenset()  # vision, tools, json_schema


class Needs(msgspec.Struct, frozen=True):
    """What this request needs of a model."""

    of: frozenset[str] = frozenset()  # vision, tools, json_schema
    input_tokens: int | None = None  # estimated low: a target is left out only if the prompt can't fit


class Known(msgspec.Struct, frozen=True):
    """What is known of a choice at this moment."""

    candidate: Candidate
    abilities: Abilities = Abilities()
    breaker_admits: bool = True
    breaker_closes_ns: int = 0  # when it will let a probe through
    concurrency: int | None = None  # limits.concurrency of the target


class Dropped(msgspec.Struct, frozen=True):
    """A choice that isn't asked."""

    target: str
    model: str | None
    why: str


class Plan(msgspec.Struct, frozen=True):
    """Whom to ask, first to last. No target with the same model stands in it twice."""

    steps: tuple[Candidate, ...]
    dropped: tuple[Dropped, ...] = ()
    last_resort: bool = False  # every breaker is open: the one that closes soonest is asked all the same


BREAKER_OPEN = "its breaker is open"
NO_PRICE = "its price isn't known, and prices.on_unknown is refuse"


StickyKey = Callable[[str | None], str]
"""The call's own value of what `sticky_by` names."""


def make_plan(group: Group, known: Callable[[Choice], Known], needs: Needs, chance: Chance, sticky_key: StickyKey) -> Plan:
    """The plan for one call. `known` tells of each choice; it is asked once for each place a choice has."""
    planning = _Planning(known, needs, chance, sticky_key)
    steps = _without_repeats(planning.ordered(group))
    if not steps and planning.open_breakers:
        soonest = min(planning.open_breakers, key=lambda one: one.breaker_closes_ns)
        return Plan((soonest.candidate,), tuple(planning.dropped), last_resort=True)
    return Plan(tuple(steps), tuple(planning.dropped))


class _Planning:
    """One plan in the making."""

    def __init__(self, known: Callable[[Choice], Known], needs: Needs, chance: Chance, sticky_key: StickyKey) -> None:
        self._known = known
        self._needs = needs
        self._chance = chance
        self._sticky_key = sticky_key
        self.dropped: list[Dropped] = []
        self.open_breakers: list[Known] = []  # of choices that are dropped for nothing else

    def ordered(self, group: Group) -> list[Candidate]:
        """The group's candidates in its order. A group within it has the figures of its own first one, and the weight it was given."""
        runs: dict[int, list[Candidate]] = {}  # by the identity of the candidate that stands for them
        leaders: list[Candidate] = []
        for member in group.members:
            run = self._kept(member) if isinstance(member, Choice) else self.ordered(member)
            if run:
                leader = run[0] if isinstance(member, Choice) else msgspec.structs.replace(run[0], weight=member.weight)
                leaders.append(leader)
                runs[id(leader)] = run
        if len(leaders) > 1:
            key = self._sticky_key(group.sticky_by) if group.strategy == "sticky" else ""
            leaders = order(leaders, group.strategy, self._chance, key)
        return [candidate for leader in leaders for candidate in runs[id(leader)]]

    def _kept(self, choice: Choice) -> list[Candidate]:
        known = self._known(choice)
        why = _misfit(known, self._needs)
        if why is None and not known.breaker_admits:
            self.open_breakers.append(known)
            why = BREAKER_OPEN
        if why is None:
            return [known.candidate]
        self.dropped.append(Dropped(choice.target, choice.model, why))
        return []


def _misfit(known: Known, needs: Needs) -> str | None:
    """Why a target can't take this call, whatever the state of its breaker; None if it can."""
    missing = needs.of & known.abilities.lacks
    if missing:
        return f"it lacks {', '.join(sorted(missing))}"
    window, asked = known.abilities.context_window, needs.input_tokens
    if window is not None and asked is not None and asked > window:
        return f"about {asked} tokens don't fit its context window of {window}"
    if known.concurrency is not None and known.candidate.in_flight >= known.concurrency:
        return f"limits.concurrency: {known.candidate.in_flight} of {known.concurrency} are in flight"
    return None


def _without_repeats(candidates: Sequence[Candidate]) -> list[Candidate]:
    seen: set[tuple[str, str | None]] = set()
    steps = []
    for one in candidates:
        if (one.target, one.model) not in seen:
            seen.add((one.target, one.model))
            steps.append(one)
    return steps
