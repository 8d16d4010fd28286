"""What the gate knows of a target at this moment, and of a call, as routing and planning ask for it.

Here: gathering facts, and no more of them than are asked for. Not here: what follows from them (policy/).
"""

from __future__ import annotations

from functools import cached_property, partial

from proxy.pipeline.runtime import Gate, Runtime
from proxy.pipeline.state import CallState
from proxy.policy.budgets import Subject
from proxy.policy.conditions import RouteFacts, UsedShare, not_known
from proxy.policy.estimates import expected_tokens, expected_usage, least_tokens, surely_fits
from proxy.policy.order import Candidate
from proxy.policy.plan import Abilities, Choice, Known, Needs
from proxy.policy.routing import CompiledRoute
from proxy.policy.standings import used_share
from proxy.policy.target_state import TargetState
from proxy.wire.prompt import Prompt, may_hold_image, read_prompt

TALKS = frozenset({"chat", "generate_content"})
"""Operations whose prompt is one text for one context window; embeddings and completions may take many at once."""
WRITES = TALKS | {"text_completion"}
"""Operations that answer in text where nothing else is asked for."""


class Knowledge:
    """What is known for one call. Its prompt is read when it is first asked for, and once."""

    def __init__(self, gate: Gate, runtime: Runtime, call: CallState) -> None:
        self._gate = gate
        self._runtime = runtime
        self._call = call
        self._is_long = False  # the prompt may be too long for a target: only then is it looked up what each of them takes

    def route_facts(self) -> RouteFacts:
        """What a rule may ask about the call; what no rule asks for is left out where it would cost something."""
        call, request, asks = self._call, self._call.request, self._runtime.asks
        fields = call.fields
        if fields is None:
            now_unix_s = request.started_unix_ns / 1e9
            return RouteFacts(
                request.method,
                call.path,
                call.model,
                request.headers,
                False,
                now_unix_s=now_unix_s,
                labels=call.labels,
                budget_used=self._budget_used(),
            )
        return RouteFacts(
            request.method,
            call.path,
            call.model,
            request.headers,
            fields.stream,
            metadata=fields.metadata,
            tools=fields.tools,
            images=self._has_images() if "images" in asks else False,
            response_format=fields.response_format or ("text" if call.api.operation in WRITES else None),
            input_tokens=self._input_tokens() if "input_tokens" in asks else None,
            max_tokens=fields.facts.max_tokens,
            now_unix_s=request.started_unix_ns / 1e9,
            labels=call.labels,
            budget_used=self._budget_used(),
        )

    def _budget_used(self) -> UsedShare:
        """Tells the used share of a budget, of the scope that the call belongs to. It doesn't know the call: the call will know it."""
        if "budget_used" not in self._runtime.asks:
            return not_known
        return partial(_used_share, self._gate, self._runtime, who_calls(self._call))

    def needs(self, route: CompiledRoute) -> Needs:
        """What the call needs of a model, as far as a target of the route may lack it. To be asked before `known`."""
        input_tokens = self._least_tokens(route)
        self._is_long = input_tokens is not None
        return Needs(frozenset(filter(self._has_need, route.lacking)), input_tokens)

    def known(self, choice: Choice, route: CompiledRoute) -> Known:
        """The state of a choice's target."""
        state, now_ns = self._runtime.states[choice.target], self._gate.clock.monotonic_ns()
        cost_nusd = self._expected_cost_nusd(choice, state) if route.goes_by_cost else None
        abilities = self._runtime.router.abilities[choice.target]
        if self._is_long:
            abilities = Abilities(self._context_window(choice), abilities.lacks)
        return Known(
            Candidate(choice.target, choice.model, choice.weight, state.in_flight, state.latency_s, state.headroom(now_ns), cost_nusd),
            abilities,
            breaker_admits=state.breaker.admits(now_ns),
            breaker_closes_ns=state.breaker.closes_ns,
            concurrency=self._runtime.concurrency[choice.target],
        )

    def sticky_key(self, sticky_by: str | None) -> str:
        """The value of the call that `sticky_by` names: a label, model, or header:NAME; without one, each call has its own."""
        call = self._call
        if sticky_by == "model":
            value = call.model or ""
        elif sticky_by is not None and sticky_by.startswith("header:"):
            value = call.headers.get(sticky_by.removeprefix("header:").lower().encode(), b"").decode("latin-1")
        else:
            value = call.labels.get(sticky_by, "") if sticky_by is not None else ""
        return value or call.call_id

    # ---------------------------------------------------------------------------------------------------------- prompt

    @cached_property
    def _prompt(self) -> Prompt:
        return Prompt() if self._call.plain is None else read_prompt(self._call.plain)

    def _has_images(self) -> bool:
        return self._call.plain is not None and may_hold_image(self._call.plain) and self._prompt.has_images

    def _input_tokens(self) -> int:
        return expected_tokens(self._prompt.text_chars, self._prompt.token_ids)

    def _has_need(self, need: str) -> bool:
        fields = self._call.fields
        match need:
            case "vision":
                return self._has_images()
            case "tools":
                return fields is not None and fields.tools
            case _:
                return fields is not None and fields.response_format == need

    def _least_tokens(self, route: CompiledRoute) -> int | None:
        """None where the prompt fits every target, which mostly is known without reading it, or none: then it is theirs to refuse."""
        call = self._call
        if call.plain is None or call.fields is None or call.api.operation not in TALKS:
            return None
        windows = [self._context_window(choice) for choice in route.choices]
        known = [window for window in windows if window is not None]
        if not known or surely_fits(len(call.plain), min(known)):
            return None
        tokens = least_tokens(self._prompt.text_chars, self._prompt.token_ids)
        return tokens if len(known) < len(windows) or tokens <= max(known) else None

    # --------------------------------------------------------------------------------------------------------- targets

    def _context_window(self, choice: Choice) -> int | None:
        """As YAML says; what it leaves out is that of the shipped data."""
        declared = self._runtime.router.abilities[choice.target].context_window
        if declared is not None:
            return declared
        return self._runtime.prices.context_window(self._runtime.endpoints[choice.target].target, choice.model or self._call.model)

    def _expected_cost_nusd(self, choice: Choice, state: TargetState) -> int | None:
        """None if the price isn't known. A price by the hour is taken for as long as the target's calls last."""
        call, target = self._call, self._runtime.endpoints[choice.target].target
        facts = call.fields.facts if call.fields else None
        usage = expected_usage(self._input_tokens(), facts.max_tokens if facts else None, facts.choice_count if facts else None)
        at_unix_s = call.request.started_unix_ns / 1e9
        cost = self._runtime.prices.cost(
            target, choice.model or call.model, None, usage, at_unix_s, duration_s=state.latency_s or 0.0, service_tier=None
        )
        return cost.total_nusd if cost is not None else None


def who_calls(call: CallState) -> Subject:
    """Whose budgets a call is under, as far as that doesn't depend on where it goes."""
    return Subject(call.labels, call.headers, None, "", "")


def _used_share(gate: Gate, runtime: Runtime, subject: Subject, budget: str) -> float | None:
    now_ms = gate.store_now_ms()
    draws = runtime.spending.budget_draws(budget, subject, now_ms)
    return used_share(draws, gate.standings(draws, now_ms))


def takes_calls(gate: Gate, runtime: Runtime, target: str) -> bool:
    """Whether a target may be asked now: its breaker admits it, and its `limits.concurrency` isn't used up."""
    state, most = runtime.states[target], runtime.concurrency[target]
    return state.breaker.admits(gate.clock.monotonic_ns()) and (most is None or state.in_flight < most)


def may_be_paid(runtime: Runtime, call: CallState, step: Candidate) -> bool:
    """Whether `prices.on_unknown` lets a target be asked: not with `refuse`, where the price of a billable call isn't known."""
    model = step.model or call.model
    if not runtime.refuse_unpriced or not call.api.billable or model is None:
        return True
    return runtime.prices.known(runtime.endpoints[step.target].target, model)
