"""A bound on label values: models and error codes come from clients and providers, and the SDK keeps every set of labels forever.

Here: the cap. Not here: which labels a metric has.
"""

from __future__ import annotations

from proxy.observer.telemetry import names

MAX_VALUES = 200  # distinct values of one label
MAX_CHARS = 128  # of one value


class LabelCap:
    """Lets the first MAX_VALUES values of each label through; every further one becomes `_OTHER`."""

    def __init__(self, max_values: int = MAX_VALUES) -> None:
        self._max_values = max_values
        self._seen: dict[str, set[str]] = {}

    def admit(self, label: str, value: str) -> str:
        """The value to report for `label`."""
        seen = self._seen.setdefault(label, set())
        if value in seen:
            return value
        if len(seen) >= self._max_values or len(value) > MAX_CHARS:
            return names.OTHER
        seen.add(value)
        return value
