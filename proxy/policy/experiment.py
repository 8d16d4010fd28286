"""Experiments: which arm a call is in.

Here: the draw that is no chance, so that one user stays in one arm. Not here: which route's experiment it is (routing.py).
"""

from __future__ import annotations

from bisect import bisect_right
from hashlib import blake2b
from itertools import accumulate

import msgspec

from proxy.config.schema import ExperimentConfig

_HASH_BYTES = 8


class Assigned(msgspec.Struct, frozen=True):
    """The arm of a call."""

    name: str  # of the experiment
    arm: str


def assigned(experiment: ExperimentConfig, value: str) -> Assigned:
    """The arm that a value of `by` is in: always the same, in any process, while the shares stay. Experiments of other names draw anew."""
    digest = blake2b(f"{experiment.name}\0{value}".encode("utf-8", "surrogatepass"), digest_size=_HASH_BYTES).digest()
    arms, ends = list(experiment.arms), list(accumulate(experiment.arms.values()))
    place = bisect_right(ends, int.from_bytes(digest, "big") / (1 << 8 * _HASH_BYTES) * ends[-1])
    return Assigned(experiment.name, arms[min(place, len(arms) - 1)])
