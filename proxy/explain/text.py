"""An explanation for people.

Here: text. Not here: the explanation (policy/explain.py), the terminal (cli.py).
"""

from __future__ import annotations

from proxy.explain.table import printable, table
from proxy.policy.explain import Account, Considered, Explanation, Shadow, Step


def as_text(told: Explanation) -> str:
    """The explanation as lines, each of which ends."""
    asked = f"model {told.model}" if told.model else "no model"
    lines = [f"{told.method} {told.path}, {asked}{', streamed' if told.stream else ''}"]
    if told.labels:
        lines.append(f"From {', '.join(f'{name} {value}' for name, value in told.labels.items())}")
    if told.routes:
        rows = [(one.route, _considered(one)) for one in told.routes]
        lines += ["", "Routes, in order:", *table(rows)]
    if told.route is not None:
        lines += ["", *_plan(told)]
    if told.shadow is not None:
        lines += ["", *_shadow(told.shadow)]
    if told.budgets:
        lines += ["", "Budgets and limits, before the call:", *table([_account(one) for one in told.budgets])]
    if told.refusal is not None:
        refused = f"{told.refusal.status} {told.refusal.code}"
        lines += ["", f"Nothing would be sent; the client would get {refused}:", f"  {told.refusal.message}"]
    return "".join(f"{printable(line)}\n" for line in lines)


def _account(one: Account) -> tuple[str, str, str]:
    unit = one.unit.upper() if one.unit == "usd" else "at a time" if one.unit == "concurrency" else one.unit
    amounts = f"{one.spent:g} spent, {one.held:g} held of {one.limit:g} {unit}; this call may use up to {one.asks:g}"
    return f"{one.rule}{' (in shadow)' if one.shadow else ''}", one.scope, amounts


def _plan(told: Explanation) -> list[str]:
    lines = [f"Route {_rule(told)}. Asked, one after the other:", *_places(told)]
    if told.draws:
        draws = ",".join(f"{draw!r}" for draw in told.draws)
        lines += [f"Drawn by chance: {draws}. The same once more: --draw {draws}"]
    if told.experiment is not None:
        lines.append(f"Experiment {told.experiment.name}, arm {told.experiment.arm}.")
    return [*lines, _failover(told), *_beside(told)]


def _beside(told: Explanation) -> list[str]:
    """What may go on beside the one attempt after the other."""
    lines = []
    if told.hedge is not None:
        after = f"the {told.hedge.after} of its route's waits" if told.hedge.after.startswith("p") else told.hedge.after
        lines.append(
            f"Hedged: waiting longer than {after}, it is sent to the next one too; at most {_percent(told.hedge.max_ratio)} of calls."
        )
    if told.mirror is not None:
        names = ", ".join(_name(choice.target, choice.model) for choice in told.mirror.to)
        lines.append(f"Copied to {names}: {_percent(told.mirror.ratio)} of calls.")
    return lines


def _considered(one: Considered) -> str:
    if not one.matches:
        return f"no: {one.because}"
    return "matches, in shadow: the call goes on" if one.shadow else "matches"


def _shadow(told: Shadow) -> list[str]:
    first = "another one first" if told.differs else "the same one first"
    return [f"In shadow, route {_rule(told)}. It would have asked {first}:", *_places(told), _failover(told)]


def _rule(told: Explanation | Shadow) -> str:
    alias = f", alias {told.alias}" if told.alias else ""
    strategy = f", strategy {told.strategy}" if told.strategy else ""
    return f"{told.route}{alias}{strategy}"


def _places(told: Explanation | Shadow) -> list[str]:
    """Whom it asks, and whom not."""
    lines = table([(f"{number}.", _name(step.target, step.model), _why(step)) for number, step in enumerate(told.steps, 1)])
    if told.dropped:
        lines += ["Not asked:", *table([(_name(drop.target, drop.model), drop.why) for drop in told.dropped])]
    return lines


def _failover(told: Explanation | Shadow) -> str:
    rule = told.failover
    if rule is None:
        return "No failover: the first failure is the call's."
    goes_on = " It goes on with a chat's stream that breaks." if rule.continue_midstream else ""
    return f"The next one is asked on {', '.join(rule.on)}; at most {rule.attempts} attempts in all.{goes_on}"


def _why(step: Step) -> str:
    return f"{step.why}; request: {step.changes}" if step.changes else step.why


def _name(target: str, model: str | None) -> str:
    return f"{target}/{model}" if model else target


def _percent(share: float) -> str:
    return f"{100 * share:.4g} %"
