"""Every call of a route with an experiment is in one arm, and its record and its explanation say which."""

from __future__ import annotations

import msgspec

from proxy.explain.text import as_text
from proxy.policy.explain import Explanation
from tests.pipeline.replies import GOOD
from tests.pipeline.scripts import chat
from tests.pipeline.world import World

CONFIG = """
targets: {a: {provider: openai, credential: sk-a}}
routes: [{name: all, to: [a], experiment: {name: terse, arms: {x: 50%, y: 50%}, by: user}}]
"""


def arms(*users: str | None) -> list[str | None]:
    found = []
    with World(CONFIG) as world:
        for user in users:
            record = world.call(chat(body={"user": user} if user is not None else {}), GOOD).record
            assert (record.experiment, record.plan is not None) == ("terse", True)
            found.append(record.arm)
    return found


def test_user_stays_in_one_arm_and_users_are_in_both() -> None:
    users = [f"user-{number}" for number in range(20)]
    assert arms(*users) == arms(*users)
    assert set(arms(*users)) == {"x", "y"}


def test_calls_without_a_user_are_in_an_arm_of_their_own() -> None:
    assert set(arms(*[None] * 40)) == {"x", "y"}


def test_explanation_tells_the_arm_of_the_call() -> None:
    request = chat([(b"x-postern-explain", b"1")], {"user": "alice"})
    with World(CONFIG) as world:
        told = msgspec.json.decode(world.call(request).client.body, type=Explanation)
    assert told.experiment is not None
    assert [told.experiment.arm] == arms("alice")
    assert f"Experiment terse, arm {told.experiment.arm}.\n" in as_text(told)


def test_call_of_a_route_without_experiment_has_no_arm() -> None:
    with World(CONFIG.replace(", experiment: {name: terse, arms: {x: 50%, y: 50%}, by: user}", "")) as world:
        record = world.call(chat(), GOOD).record
    assert (record.experiment, record.arm) == (None, None)
