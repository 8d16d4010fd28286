"""docs/budgets.md against the policy it describes."""

from __future__ import annotations

import re

from proxy.call import LABELS
from proxy.policy.budgets import ATTEMPT_UNITS, CALL_UNITS
from proxy.policy.forecast import EARLIEST_SHARE
from proxy.policy.limits import PERIODS_MS
from proxy.policy.refusals import KINDS, SOON_MS
from proxy.policy.scopes import NO_VALUE
from proxy.policy.spending_rules import SPEND_FIT, compiled
from proxy.policy.windows import CLOCK_MS, FIRST_DAY, ROLLING_PARTS
from tests.config.support import load
from tests.project.tree import ROOT

DOCUMENT = (ROOT / "docs" / "budgets.md").read_text(encoding="utf-8")


def test_the_example_loads_and_compiles() -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", DOCUMENT, re.DOTALL)
    rules = list(compiled(load(example).config))
    assert [rule.name for rule in rules] == ["tenant-day", "company-month", "team-trial", "per-user"]
    assert {measure.unit for rule in rules for measure in rule.measures} == {*CALL_UNITS, *ATTEMPT_UNITS}
    assert rules[0].measures[0].critical_limit == 15 * 10**9


def test_documented_scopes_spends_windows_and_rates_are_those_of_the_policy() -> None:
    assert all(f"`{label}`" in DOCUMENT for label in LABELS)
    assert re.findall(r"^\| `(\w+)` \| s", DOCUMENT, re.MULTILINE) == list(SPEND_FIT)
    assert f"`every: {' | '.join([*CLOCK_MS, *FIRST_DAY])}`" in DOCUMENT
    assert all(f"`/{period}`" in DOCUMENT for period in PERIODS_MS)
    assert f"`tenant={NO_VALUE}`" in DOCUMENT


def test_documented_codes_and_figures_are_those_of_the_policy() -> None:
    assert re.findall(r"^\| `(\w+)` \| \d{3} ", DOCUMENT, re.MULTILINE) == [*KINDS.values(), "store_unavailable"]
    assert (SOON_MS, ROLLING_PARTS, EARLIEST_SHARE) == (1000, 60, 0.05)
    assert "first 5% of a window" in DOCUMENT
    assert "in parts of a 60th" in DOCUMENT
