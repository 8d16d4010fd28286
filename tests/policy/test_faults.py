"""What went wrong with an attempt, and what it calls for."""

from __future__ import annotations

import pytest

from proxy.call import Outcome
from proxy.policy.faults import REACTIONS, ErrorReply, Fault, classify_reply


@pytest.mark.parametrize(
    ("reply", "fault"),
    [
        (ErrorReply(200), None),
        (ErrorReply(302), None),
        (ErrorReply(400, "invalid_value", "invalid_request_error"), Fault.CLIENT),
        (ErrorReply(400, "context_length_exceeded", "invalid_request_error"), Fault.CONTEXT_WINDOW),
        (ErrorReply(400, None, "invalid_request_error", "prompt is too long: 250000 tokens > 200000 maximum"), Fault.CONTEXT_WINDOW),
        (ErrorReply(400, "400", "BadRequestError", "This model's maximum context length is 4096 tokens."), Fault.CONTEXT_WINDOW),
        (ErrorReply(400, "content_filter", None), Fault.CONTENT_FILTER),
        (ErrorReply(401, "invalid_api_key", "invalid_request_error"), Fault.CREDENTIAL),
        (ErrorReply(402), Fault.CREDENTIAL),
        (ErrorReply(403), Fault.CREDENTIAL),
        (ErrorReply(404, "model_not_found"), Fault.CLIENT),
        (ErrorReply(408), Fault.SERVER_ERROR),
        (ErrorReply(422), Fault.CLIENT),
        (ErrorReply(429, "rate_limit_exceeded", "tokens"), Fault.THROTTLED),
        (ErrorReply(429), Fault.THROTTLED),
        (ErrorReply(429, "insufficient_quota", "insufficient_quota"), Fault.QUOTA),
        (ErrorReply(429, None, "insufficient_quota"), Fault.QUOTA),
        (ErrorReply(500, None, "server_error"), Fault.SERVER_ERROR),
        (ErrorReply(503), Fault.SERVER_ERROR),
        (ErrorReply(529, None, "overloaded_error"), Fault.THROTTLED),
        (ErrorReply(400, None, "invalid_request_error", "Your credit balance is too low to access the API."), Fault.QUOTA),
        (ErrorReply(422, None, None, "This model's maximum context length is 4096 tokens."), Fault.CONTEXT_WINDOW),
        (ErrorReply(500, None, None, "The context window of the cache is gone."), Fault.SERVER_ERROR),
    ],
)
def test_a_reply_is_classified_once(reply: ErrorReply, fault: Fault | None) -> None:
    assert classify_reply(reply) is fault


@pytest.mark.parametrize(
    ("reply", "fault"),
    [
        (ErrorReply(200, None, "overloaded_error"), Fault.THROTTLED),
        (ErrorReply(200, "rate_limit_exceeded"), Fault.THROTTLED),
        (ErrorReply(200, "insufficient_quota"), Fault.QUOTA),
        (ErrorReply(200, "context_length_exceeded"), Fault.CONTEXT_WINDOW),
        (ErrorReply(200, None, "invalid_request_error", "no"), Fault.CLIENT),
        (ErrorReply(200, None, "authentication_error"), Fault.CREDENTIAL),
        (ErrorReply(200, None, None, "something broke"), Fault.SERVER_ERROR),
        (ErrorReply(200, "server_error"), Fault.SERVER_ERROR),
        (ErrorReply(200, "429", None, "slow down"), Fault.THROTTLED),
        (ErrorReply(200, "502", None, "Provider returned error"), Fault.SERVER_ERROR),
        (ErrorReply(200, "401"), Fault.CREDENTIAL),
        (ErrorReply(200, "400", "BadRequestError", "no"), Fault.CLIENT),
        (ErrorReply(200, "400", "BadRequestError", "This model's maximum context length is 4096 tokens."), Fault.CONTEXT_WINDOW),
        (ErrorReply(200, "5000"), Fault.SERVER_ERROR),
        (ErrorReply(200, "bio_policy"), Fault.CONTENT_FILTER),
        (ErrorReply(200, "invalid_image_url"), Fault.CLIENT),
    ],
)
def test_an_error_inside_a_200_is_classified_by_its_words(reply: ErrorReply, fault: Fault) -> None:
    assert classify_reply(reply) is fault


def test_every_fault_has_a_reaction() -> None:
    assert set(REACTIONS) == set(Fault)


def test_a_breaker_never_counts_faults_of_the_client() -> None:
    assert all(not reaction.trips for reaction in REACTIONS.values() if reaction.outcome is Outcome.REJECTED)


def test_a_breaker_never_counts_a_target_that_is_only_busy() -> None:
    assert not REACTIONS[Fault.THROTTLED].trips


def test_a_quota_that_is_used_up_is_not_asked_again() -> None:
    assert not REACTIONS[Fault.QUOTA].retry
    assert REACTIONS[Fault.QUOTA].failover
