"""What an attempt costs: declared prices first, then the provider's own figure, then the shipped prices.

Here: the order of sources, overrides by model glob, the cache of answers. Not here: the price file's meaning (price_match.py), money
(price_rates.py).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from fnmatch import translate
from typing import TypeVar

import msgspec

from proxy.call import Cost, Price, Target, Usage
from proxy.policy.bounds import ModelLimits, UsageBound
from proxy.policy.price_match import PricedModel, ShippedPrices, is_standard, usd_at, valid_window
from proxy.policy.price_rates import Bands, cost_of, declared_bands, most_nusd, rates_for, shipped_bands

BATCH = "batch"  # the tier under which the file has prices of batch APIs
PRIORITY = "priority"
AUTO = "auto"  # as leaving it out: the tier is what the account's project is set to
LATE_S = 1.0
"""How much longer than its `total_s` an attempt may last until it is ended and priced."""

MAX_ANSWERS = 4096
MAX_NAME_CHARS = 256
"""Longer model names have no price: clients choose them, and they are kept as keys."""

_AnswerKey = tuple[str, str | None, str | None, str | None]  # target, model, response model, service tier
_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class _Answer(msgspec.Struct, frozen=True, gc=False):
    """The price of one kind of call, and the Unix seconds between which it holds."""

    bands: Bands | None  # None: unknown
    declared: bool = False
    since_s: float = -math.inf
    until_s: float = math.inf


UNKNOWN = _Answer(bands=None)
NO_LIMITS = ModelLimits()


class PriceBook:
    """All prices of one configuration, in which a target's name stands for one target. None means unknown, never 0."""

    def __init__(self, shipped: ShippedPrices, overrides: Mapping[str, Price]) -> None:
        """Take `prices.overrides`, by model name or glob. Raises ValueError on a price that makes no sense, naming its key."""
        self._shipped = shipped
        self._by_name = {name.lower(): _override(name, price) for name, price in overrides.items()}
        self._by_glob = [(re.compile(translate(name)), bands) for name, bands in self._by_name.items()]
        self._answers: dict[_AnswerKey, _Answer] = {}
        self._known: dict[tuple[str, str | None], bool] = {}
        self._models: dict[tuple[str, str], PricedModel | None] = {}

    def cost(
        self,
        target: Target,
        model: str | None,
        response_model: str | None,
        usage: Usage,
        at_unix_s: float,
        duration_s: float,
        service_tier: str | None,
        batch: bool = False,
    ) -> Cost | None:
        """The cost of an attempt at a Unix time; None if no price is known, for its service tier, or for what the usage tells.

        `model` is what was sent upstream, `service_tier` what the reply says was used. Raises ValueError on a target whose price makes no
        sense (`check_price`).
        """
        answer = self._answer(target, model, response_model, BATCH if batch else service_tier, at_unix_s)
        if usage.provider_cost_nusd is not None and not answer.declared:
            return Cost(usage.provider_cost_nusd, source="provider")
        if answer.bands is None:
            return None
        rates = rates_for(answer.bands, usage.input_tokens or 0)
        return cost_of(rates, usage, duration_s, "override" if answer.declared else "prices")

    def bound_nusd(
        self, target: Target, model: str | None, bound: UsageBound | None, at_unix_s: float, service_tier: str | None
    ) -> int | None:
        """What an attempt costs at most whose usage is within `bound`, at a Unix time; None if that isn't known.

        `service_tier` is what the request asks for. One that leaves it to the provider is taken for the dearer of standard and priority:
        the project that pays may be set to it. `bound` None: the usage isn't known, but the price may not go by it.
        """
        answer = self._answer(target, model, None, None, at_unix_s)
        if answer.bands is None:
            return None
        duration_s = None if target.timeouts.total_s is None else target.timeouts.total_s + LATE_S
        most = most_nusd(answer.bands, bound, duration_s)
        if most is None or answer.declared:
            return most
        asked = None if service_tier is None or service_tier.lower() == AUTO else service_tier
        if asked is not None and is_standard(asked):
            return most
        if asked is not None and len(asked) > MAX_NAME_CHARS:
            return None
        bands = self._answer(target, model, None, asked or PRIORITY, at_unix_s).bands
        if bands is None:
            return most if asked is None else None
        other = most_nusd(bands, bound, duration_s)
        return None if other is None else max(most, other)

    def limits(self, target: Target, model: str | None) -> ModelLimits:
        """The most that a model takes and gives, as the shipped data knows it by its provider and name."""
        found = self._model(target, model)
        if found is None:
            return NO_LIMITS
        window = max(found.context_window or 0, found.largest_window or 0) or None
        return ModelLimits(window, found.max_output_tokens, found.image_tokens)

    def known(self, target: Target, model: str | None) -> bool:
        """Whether a call of this model would have a price, at the standard tier and before any reply (for `prices.on_unknown: refuse`)."""
        key = (target.name, _kept(model))
        known = self._known.get(key)
        if known is None:
            known = self._look_up(target, (*key, None, None), 0.0).bands is not None
            _put(self._known, key, known)
        return known

    def context_window(self, target: Target, model: str | None) -> int | None:
        """The tokens that a model takes, as the shipped data knows it by its provider and name; None if it doesn't."""
        found = self._model(target, model)
        return found.context_window if found is not None else None

    def _model(self, target: Target, model: str | None) -> PricedModel | None:
        if model is None:
            return None
        key = (target.name, model)
        try:
            return self._models[key]
        except KeyError:
            found = self._shipped.find(target.provider, model) if _kept(model) else None
        if _kept(model):
            _put(self._models, key, found.model if found is not None else None)
        return found.model if found is not None else None

    def _answer(self, target: Target, model: str | None, response_model: str | None, tier: str | None, at_unix_s: float) -> _Answer:
        key = (target.name, _kept(model), _kept(response_model), tier)
        answer = self._answers.get(key)
        if answer is None or not answer.since_s <= at_unix_s < answer.until_s:
            answer = self._look_up(target, key, at_unix_s)
            _put(self._answers, key, answer)
        return answer

    def _look_up(self, target: Target, key: _AnswerKey, at_unix_s: float) -> _Answer:
        _, model, response_model, tier = key
        names = [name for name in (response_model, model) if name]
        declared = declared_bands(target.price) if target.price is not None else self._overridden(names)
        if declared is not None:
            return _Answer(declared, declared=True)
        for name in names:
            found = self._shipped.find(target.provider, name)
            if found is not None:
                usd = usd_at(found, tier, at_unix_s)
                bands = shipped_bands(usd, found.model.minimum_audio_s) if usd is not None else None
                return _Answer(bands, False, *valid_window(found.model, at_unix_s))
        return UNKNOWN

    def _overridden(self, names: list[str]) -> Bands | None:
        """A name that is a key itself wins over any glob; among globs the first in the YAML."""
        lowered = [name.lower() for name in names]
        exact = next((self._by_name[name] for name in lowered if name in self._by_name), None)
        if exact is not None:
            return exact
        return next((bands for name in lowered for glob, bands in self._by_glob if glob.match(name)), None)


def check_price(price: Price) -> None:
    """Refuse a declared price that makes no sense. Raises ValueError saying what is wrong; to be called when a configuration is loaded."""
    declared_bands(price)


def _override(name: str, price: Price) -> Bands:
    try:
        return declared_bands(price)
    except ValueError as error:
        raise ValueError(f"prices.overrides.{name}: {error}") from None


def _kept(name: str | None) -> str | None:
    return name if name is not None and len(name) <= MAX_NAME_CHARS else None


def _put(entries: dict[_Key, _Value], key: _Key, value: _Value) -> None:
    """Keep an entry, at the cost of the oldest one when there are many."""
    if len(entries) >= MAX_ANSWERS and key not in entries:
        del entries[next(iter(entries))]
    entries[key] = value
