"""A bound on labels: models, tenants and error codes come from clients and providers, and a metric keeps every set of labels forever.

Here: the caps of one metric, and the count of what they folded. Not here: which labels a metric has.
Two bounds hold at once: MAX_VALUES of each label, so that one wild label costs no other its values, and MAX_SETS of all together.
"""

from __future__ import annotations

from proxy.observer.telemetry import names

Labels = dict[str, str | int]
LabelKey = tuple[tuple[str, str | int], ...]

MAX_VALUES = 200  # distinct values of one label of one metric
MAX_CHARS = 128  # of one value
MAX_SETS = 2_000  # distinct sets of labels of one metric

CLOSED_LABELS = frozenset(
    {
        names.OUTCOME,
        names.TOKEN_TYPE,
        names.TOKEN_MODALITY,
        names.HTTP_METHOD,
        names.URL_SCHEME,
        names.PROTOCOL_VERSION,
        names.PHASE,
        names.CACHE,
        names.SHADOW_DIFFERS,
        names.OPERATION,
    }
)
"""Labels whose values are ours, and few: never folded."""


class Folded:
    """How many values were reported as `_OTHER`, by metric and label. Written by one thread, read by others."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], int] = {}

    def add(self, metric: str, label: str) -> None:
        """Count one more."""
        key = (metric, label)
        self._counts[key] = self._counts.get(key, 0) + 1

    def counts(self) -> dict[tuple[str, str], int]:
        """By metric and label, a copy."""
        return dict(self._counts)


class LabelCap:
    """The caps of one metric: the first values and sets are let through, further ones become `_OTHER`."""

    def __init__(self, metric: str, folded: Folded, max_values: int = MAX_VALUES, max_sets: int = MAX_SETS) -> None:
        self._metric = metric
        self._folded = folded
        self._max_values = max_values
        self._max_sets = max_sets
        self._seen: dict[str, set[str | int]] = {}
        self._sets: set[LabelKey] = set()

    def admit(self, labels: Labels) -> Labels:
        """The labels to report instead of `labels`, which are left as they are."""
        key = tuple(labels.items())
        if key in self._sets:
            return labels
        return self._admit_new(labels)

    def _admit_new(self, labels: Labels) -> Labels:
        capped = {label: self._cap(label, value) for label, value in labels.items()}
        key = tuple(capped.items())
        if key not in self._sets and len(self._sets) >= self._max_sets:
            capped = {label: value if label in CLOSED_LABELS else names.OTHER for label, value in capped.items()}
        else:
            self._sets.add(key)
        for label, value in labels.items():
            if capped[label] != value:
                self._folded.add(self._metric, label)
        return capped

    def _cap(self, label: str, value: str | int) -> str | int:
        if label in CLOSED_LABELS:
            return value
        seen = self._seen.setdefault(label, set())
        if value in seen:
            return value
        if len(seen) >= self._max_values or len(str(value)) > MAX_CHARS:
            return names.OTHER
        seen.add(value)
        return value
