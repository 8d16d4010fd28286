"""What metrics and labels are called in Prometheus, by OpenTelemetry's rules: the Collector's prometheus exporter calls them the same.

Here: pure translation of names. Not here: the page (prometheus.py). Source: the specification's "Prometheus and OpenMetrics Compatibility".
"""

from __future__ import annotations

import re

UNITS = {"s": "seconds", "By": "bytes", "1": ""}
"""Units in Prometheus' words; others stay as they are, and what stands in {} is no unit."""

_FOREIGN = re.compile(r"[^a-zA-Z0-9_:]+")
_FOREIGN_IN_LABEL = re.compile(r"[^a-zA-Z0-9_]+")


def family_name(name: str, unit: str, *, is_ratio: bool) -> str:
    """The metric's name with its unit, without a counter's `_total`. `is_ratio`: a gauge of unit 1."""
    family = _FOREIGN.sub("_", name)
    ending = "ratio" if is_ratio else unit_name(unit)
    return family if not ending or family.endswith(f"_{ending}") else f"{family}_{ending}"


def unit_name(unit: str) -> str:
    """The unit as a name ends with it; "" for none."""
    return "" if unit.startswith("{") else UNITS.get(unit, unit)


def label_name(attribute: str) -> str:
    """The label that stands for an attribute."""
    label = _FOREIGN_IN_LABEL.sub("_", attribute)
    return f"key_{label}" if label[:1].isdigit() else label
