"""The most that an attempt of a call can use and cost, as budgets hold it.

Here: gathering what is known of the request, the target and its model. Not here: what follows from it (policy/bounds.py,
policy/pricing.py).
"""

from __future__ import annotations

import msgspec

from proxy.pipeline.runtime import Runtime
from proxy.pipeline.state import CallState
from proxy.pipeline.upstream_request import UpstreamRequest, upstream_request
from proxy.policy.bounds import Ask, UsageBound, upper_bound
from proxy.policy.budgets import Bound
from proxy.policy.order import Candidate
from proxy.wire.prompt_size import PromptSize, prompt_size

UNKNOWN = Bound(None, None)


class Bounds:
    """One call's. Its prompt is measured when that is first asked for, and once; a target's bound once for each of its models."""

    def __init__(self, runtime: Runtime, call: CallState) -> None:
        self._runtime = runtime
        self._call = call
        self._known: dict[tuple[str, str | None], Bound] = {}
        self._size: PromptSize | None = None  # of the client's own body

    def of(self, step: Candidate) -> Bound:
        """The bound of an attempt at a step of the plan. Raises RequestNotShapeable."""
        key = (step.target, step.model or self._call.model)
        bound = self._known.get(key)
        if bound is None:
            sent = upstream_request(self._call, self._runtime.request_rules, step)
            bound = self._known[key] = self._bound(step, sent, self._usage(step, sent))
        return bound

    def of_input(self, step: Candidate) -> Bound:
        """The bound of its input alone: what is used before a reply could be ended."""
        sent = upstream_request(self._call, self._runtime.request_rules, step)
        usage = self._usage(step, sent)
        return UNKNOWN if usage is None else self._bound(step, sent, msgspec.structs.replace(usage, output_tokens=0))

    def _bound(self, step: Candidate, sent: UpstreamRequest, usage: UsageBound | None) -> Bound:
        call, runtime = self._call, self._runtime
        target, model = runtime.endpoints[step.target].target, step.model or call.model
        tier = sent.fields.facts.service_tier if sent.fields is not None else None
        cost_nusd = runtime.prices.bound_nusd(target, model, usage, call.request.started_unix_ns / 1e9, tier)
        return Bound(cost_nusd, None if usage is None else usage.tokens)

    def _usage(self, step: Candidate, sent: UpstreamRequest) -> UsageBound | None:
        call, runtime = self._call, self._runtime
        if sent.fields is None or sent.body is None:
            return None
        target, declared = runtime.endpoints[step.target].target, runtime.config.targets[step.target]
        limits = runtime.prices.limits(target, step.model or call.model).declared(declared.context_window, declared.max_output_tokens)
        size, asked = self._size_of(sent.body), sent.fields.limits
        held = (size.text_bytes, size.images, size.audio_bytes, size.hidden_tools, size.prompts, size.is_whole)
        ask = Ask(call.api.operation, *held, asked.tokens, asked.old_tokens, asked.choices)
        return upper_bound(ask, target.provider, limits)

    def _size_of(self, body: bytes) -> PromptSize:
        """Most targets are sent the client's own body."""
        if body is not self._call.plain:
            return prompt_size(body)
        if self._size is None:
            self._size = prompt_size(body)
        return self._size
