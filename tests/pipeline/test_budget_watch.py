"""What a gate reports of its budgets: of each the share that is used of its fullest scope, and where it is heading."""

from __future__ import annotations

from proxy.spending import Period
from tests.pipeline.replies import GOOD
from tests.pipeline.spending_scripts import BY_REQUEST, TENANT, budget, limited, of_tenant
from tests.pipeline.world import World

DAY_S = 24 * 3600
NS_PER_MS = 1_000_000


def shares(world: World) -> tuple[dict[str, float], dict[str, float]]:
    """Used and heading for, rounded."""
    used, heading_for = world.gate.budget_watch.shares(world.store, world.clock.time_ns() // NS_PER_MS)
    return {name: round(share, 4) for name, share in used.items()}, {name: round(share, 4) for name, share in heading_for.items()}


def test_the_fullest_scope_stands_for_its_budget() -> None:
    with World(BY_REQUEST + TENANT + budget("{usd: 1}", "per: [tenant]")) as world:
        for tenant in ("acme", "beta", "beta", "acme", "beta"):
            world.call(of_tenant(tenant), GOOD)
        assert shares(world)[0] == {"day": 0.36}


def test_of_several_units_the_fullest_counts() -> None:
    with World(BY_REQUEST + budget("{usd: 10, requests: 4}")) as world:
        world.call(limited(), GOOD)
        assert shares(world)[0] == {"day": 0.25}


def test_limits_are_no_budgets() -> None:
    with World(BY_REQUEST + "limits: [{name: pace, requests: 10/min, tokens: 100000/min, concurrency: 2}]\n") as world:
        world.call(limited(), GOOD)
        assert shares(world) == ({}, {})


def test_a_new_window_begins_with_nothing_used_and_another_scope_may_be_its_fullest() -> None:
    with World(BY_REQUEST + TENANT + budget("{usd: 1}", "per: [tenant]")) as world:
        for _ in range(3):
            world.call(of_tenant("acme"), GOOD)
        world.pass_time(DAY_S)
        assert shares(world)[0] == {"day": 0.0}
        world.call(of_tenant("beta"), GOOD)
        assert shares(world)[0] == {"day": 0.12}


def test_where_a_budget_is_heading_goes_by_the_part_of_the_window_that_is_over() -> None:
    with World(BY_REQUEST + budget("{usd: 1}")) as world:
        world.call(limited(), GOOD)
        now_ms = world.clock.time_ns() // NS_PER_MS
        window = world.gate.runtime.spending.rules[0].window
        assert window is not None
        period: Period = window.period(now_ms)
        expected = 0.12 * (period.end_ms - period.start_ms) / (now_ms - period.start_ms)
        assert shares(world)[1] == {"day": round(expected, 4)}


def test_a_rule_that_a_reload_takes_away_is_reported_no_more() -> None:
    with World(BY_REQUEST + budget("{usd: 1}")) as world:
        world.call(limited(), GOOD)
        world.reload(BY_REQUEST + budget("{usd: 1}", name="other"))
        assert shares(world) == ({}, {})
