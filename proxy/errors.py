"""Errors Postern makes itself: whose fault, what to do, and whether anything was sent upstream.

Here: the exception classes and the one ordered table that turns them into an HTTP answer's parts. Not here: bytes on the wire.
"""

from __future__ import annotations

from collections.abc import Sequence


class ClientGone(Exception):
    """The client's connection is gone: nobody is left to answer."""


class PosternError(Exception):
    """An error the client is told about, in the OpenAI envelope."""

    status = 500
    type = "postern_unavailable"
    code = "internal_error"
    retry = False  # what x-should-retry says
    headers: Sequence[tuple[bytes, bytes]] = ()  # fields of the reply, beside those that every error has

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


class BadRequest(PosternError):
    """The request can't be understood. Client's fault, nothing sent."""

    status, type, code = 400, "invalid_request_error", "bad_request"


class InvalidJson(BadRequest):
    """The body should be JSON and isn't."""

    code = "invalid_json"


class InvalidField(BadRequest):
    """A field that routing reads has the wrong type."""

    code = "invalid_type"


class BodyTooLarge(PosternError):
    """The body is over max_body_mib. Client's fault; nothing sent, or the upload was broken off."""

    status, type, code = 413, "invalid_request_error", "body_too_large"

    def __init__(self, limit_bytes: int) -> None:
        mib = limit_bytes / (1 << 20)
        super().__init__(
            f"The request body is over {mib:g} MiB. Send less, or raise max_body_mib in Postern's configuration.", param="max_body_mib"
        )


class KeyInvalid(PosternError):
    """No virtual key, an unknown one, or one that has expired. Nothing read but the request's head, nothing sent."""

    status, type, code = 401, "postern_refused", "key_invalid"


class KeysUnread(PosternError):
    """The keys in the shared store were never read: nobody can tell whether the call's key is good. Nothing sent."""

    status, code, retry = 503, "store_unavailable", True
    headers = ((b"retry-after", b"2"),)

    def __init__(self) -> None:
        super().__init__(
            "Whether this key is good can't be told: the store of virtual keys hasn't answered since Postern was started. "
            "Try again shortly, or see why the store is away."
        )


class ModelNotAllowed(PosternError):
    """The virtual key is for other models. Nothing sent."""

    status, type, code = 403, "postern_refused", "model_not_allowed"


class RouteNotAllowed(PosternError):
    """The virtual key is for other routes. Nothing sent."""

    status, type, code = 403, "postern_refused", "route_not_allowed"


class NoRoute(PosternError):
    """No rule says where this call goes. Nothing sent."""

    status, type, code = 404, "postern_refused", "no_route"


class UnknownPrice(PosternError):
    """prices.on_unknown: refuse, and the model has no price. Nothing sent."""

    status, type, code = 403, "postern_refused", "unknown_price"


class SpendingRefused(PosternError):
    """A budget or limit has too little left, or can't be asked. Nothing sent."""

    type = "postern_refused"

    def __init__(self, message: str, rule: str, code: str, status: int, retry: bool, headers: list[tuple[bytes, bytes]]) -> None:
        super().__init__(message, param=rule)
        self.code, self.status, self.retry, self.headers = code, status, retry, headers


class RequestNotShapeable(PosternError):
    """A `request` rule applies to a body that can't be edited safely. Nothing sent to the target that the rule is for."""

    status, type, code = 400, "postern_refused", "request_not_shapeable"


class AllTargetsFailed(PosternError):
    """Every target of the plan was tried, or none could be. A retry of the client's would only try them again."""

    status, code = 502, "all_targets_failed"

    def __init__(self, message: str, *, param: str | None = None, status: int = 502) -> None:
        super().__init__(message, param=param)
        self.status = status


class UpstreamError(PosternError):
    """The upstream could not be used. `sent` tells whether it may have seen the request."""

    status, code = 502, "upstream_error"
    sent = True
    error_type = "upstream_error"  # error.type on spans and in the ledger


class ConnectFailed(UpstreamError):
    """No connection: refused, unreachable, unknown host, TLS. Nothing sent."""

    code, sent, retry, error_type = "upstream_connect_failed", False, True, "connect"


class UpstreamTimeout(UpstreamError):
    """A phase of the attempt took too long."""

    status, code, retry, error_type = 504, "upstream_timeout", True, "timeout"


class ConnectTimeout(UpstreamTimeout):
    """No connection in time. Nothing sent."""

    sent = False


class UpstreamGarbage(UpstreamError):
    """What came back isn't HTTP."""

    code, error_type = "upstream_invalid_reply", "invalid_reply"


class UpstreamClosed(UpstreamError):
    """The connection broke before the reply was whole."""

    code, retry, error_type = "upstream_closed", True, "closed"


class BudgetUsedUp(UpstreamError):
    """A session that is under way has used a budget up: it is ended, as nothing in it can be refused."""

    status, code, error_type = 429, "budget_exceeded", "budget_exceeded"


def without_frames(error: UpstreamError) -> UpstreamError:
    """The error, ready to be kept by what it was raised in: with its frames, only the garbage collector would free either."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)
