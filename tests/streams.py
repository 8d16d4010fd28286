"""Streamed replies as providers send them, one per shape that a reader has to get right.

Each case has the bytes that come when usage was asked for, the bytes that come unasked, and what is to be read out of them.
"""

from __future__ import annotations

from typing import NamedTuple

from proxy.call import Usage

NULL = ',"usage":null'


class StreamCase(NamedTuple):
    """A stream and what it means."""

    kind: str
    provider: str
    asked: bytes  # with stream_options.include_usage
    unasked: bytes  # what a client that didn't ask must see
    usage: Usage | None
    text: str  # content, reasoning and tool calls, in order
    finish_reasons: list[str] | None
    response_id: str | None
    response_model: str | None
    ended: bool = True
    error_code: str | None = None


def _lines(events: list[str], end: str = "\n") -> bytes:
    return "".join(f"data: {event}{end}{end}" for event in events).encode()


def _named(events: list[tuple[str, str]]) -> bytes:
    return "".join(f"event: {name}\ndata: {data}\n\n" for name, data in events).encode()


def _chunk(delta: str, reason: str = "null", null: str = "", more: str = "") -> str:
    return (
        '{"id":"chatcmpl-9","object":"chat.completion.chunk","created":1700000000,"model":"gpt-4o-2024-08-06","service_tier":"default",'
        f'"system_fingerprint":"fp_1","choices":[{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{reason}}}]{null}{more}}}'
    )


CHAT_USAGE = (
    '{"prompt_tokens":20,"completion_tokens":7,"total_tokens":27,"prompt_tokens_details":{"cached_tokens":16,"audio_tokens":0},'
    '"completion_tokens_details":{"reasoning_tokens":4,"audio_tokens":0}}'
)
CHAT_READ = Usage(input_tokens=20, output_tokens=7, cache_read_tokens=16, reasoning_tokens=4, input_audio_tokens=0, output_audio_tokens=0)
USAGE_CHUNK = (
    '{"id":"chatcmpl-9","object":"chat.completion.chunk","created":1700000000,"model":"gpt-4o-2024-08-06","service_tier":"default",'
    f'"system_fingerprint":"fp_1","choices":[],"usage":{CHAT_USAGE}'
)


def _openai_chat(end: str = "\n", comments: bool = False) -> StreamCase:
    def stream(null: str, usage: list[str]) -> bytes:
        said = [
            _chunk('{"role":"assistant","content":"","refusal":null}', null=null, more=',"obfuscation":"aXb9"'),
            _chunk(r'{"content":"Say \"usage\":null, "}', null=null, more=',"obfuscation":"q"'),
            _chunk('{"content":"Grüße 🌍"}', null=null, more=',"obfuscation":""'),
            _chunk("{}", '"stop"', null=null, more=',"obfuscation":"Zz"'),
        ]
        body = _lines([*said, *usage, "[DONE]"], end)
        return f": OPENROUTER PROCESSING{end}{end}".encode() + body if comments else body

    return StreamCase(
        "chat", "openai", stream(NULL, [USAGE_CHUNK + ',"obfuscation":"kk"}']), stream("", []), CHAT_READ,
        'Say "usage":null, Grüße 🌍', ["stop"], "chatcmpl-9", "gpt-4o-2024-08-06",
    )  # fmt: skip


def _tool_calls() -> StreamCase:
    def stream(null: str, usage: list[str]) -> bytes:
        call = '{"index":0,"id":"call_1","type":"function","function":{"name":"look_up","arguments":""}}'
        return _lines(
            [
                _chunk(f'{{"role":"assistant","content":null,"tool_calls":[{call}]}}', null=null),
                _chunk(r'{"tool_calls":[{"index":0,"function":{"arguments":"{\"usage\":"}}]}', null=null),
                _chunk(r'{"tool_calls":[{"index":0,"function":{"arguments":"null}"}}]}', null=null),
                _chunk("{}", '"tool_calls"', null=null),
                *usage,
                "[DONE]",
            ]
        )

    return StreamCase(
        "chat", "openai", stream(NULL, [USAGE_CHUNK + "}"]), stream("", []), CHAT_READ,
        'look_up{"usage":null}', ["tool_calls"], "chatcmpl-9", "gpt-4o-2024-08-06",
    )  # fmt: skip


def _azure() -> StreamCase:
    """An empty first chunk without id and model, and asynchronous filter chunks without delta."""

    def stream(null: str, usage: list[str]) -> bytes:
        filters = '{"id":"","model":"","object":"","created":0,"choices":[],"prompt_filter_results":[{"prompt_index":0}]'
        offsets = '{"index":0,"finish_reason":null,"content_filter_offsets":{"end_offset":9}}'
        late = f'{{"id":"","object":"","created":0,"model":"","choices":[{offsets}]'
        return _lines(
            [
                f"{filters}{null}}}",
                _chunk('{"content":"Hello"}', null=null),
                f"{late}{null}}}",
                _chunk("{}", '"stop"', null=null),
                *usage,
                "[DONE]",
            ]
        )

    return StreamCase(
        "chat", "azure", stream(NULL, [USAGE_CHUNK + "}"]), stream("", []), CHAT_READ, "Hello", ["stop"], "chatcmpl-9", "gpt-4o-2024-08-06"
    )


def _spaced(usage_first: bool) -> StreamCase:
    """JSON with spaces, and the null in front or in the middle; nested members of the same name stay."""

    def chunk(null: str, delta: str, reason: str) -> str:
        front = f"{null}, " if null and usage_first else ""
        middle = f", {null}" if null and not usage_first else ""
        choice = f'{{"index": 0, "delta": {delta}, "finish_reason": {reason}}}'
        return f'{{{front}"id": "c1", "meta": {{"usage": null}}{middle}, "choices": [{choice}]}}'

    def stream(null: str, usage: list[str]) -> bytes:
        return _lines([chunk(null, '{"content": "usage"}', "null"), chunk(null, "{}", '"length"'), *usage, "[DONE]"])

    last = '{"id": "c1", "model": "m", "choices": [ ], "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}}'
    return StreamCase(
        "chat",
        "vllm",
        stream('"usage": null', [last]),
        stream("", []),
        Usage(input_tokens=3, output_tokens=1),
        "usage",
        ["length"],
        "c1",
        "m",
    )


def _same(
    kind: str, provider: str, raw: bytes, usage: Usage | None, text: str, reasons: list[str] | None, ids: tuple[str | None, str | None],
    ended: bool = True, error_code: str | None = None,
) -> StreamCase:  # fmt: skip
    """A stream that is the same whether usage was asked for or not."""
    return StreamCase(kind, provider, raw, raw, usage, text, reasons, *ids, ended, error_code)


def _small(delta: str, reason: str = "null", more: str = "") -> str:
    return f'{{"id":"c2","model":"m2","choices":[{{"index":0,"delta":{delta},"finish_reason":{reason}}}]{more}}}'


def _tokens(prompt: int, completion: int) -> str:
    return f'{{"prompt_tokens":{prompt},"completion_tokens":{completion},"total_tokens":{prompt + completion}}}'


USAGE_IN_EVERY_CHUNK = _lines(
    [
        _small('{"content":"a"}', more=f',"usage":{_tokens(9, 1)}'),
        _small('{"content":"b"}', more=f',"usage":{_tokens(9, 2)}'),
        _small('{"content":"c"}', '"stop"', f',"usage":{_tokens(9, 3)}'),
        "[DONE]",
    ]
)
USAGE_BESIDE_CHOICES = _lines([_small('{"content":"a"}'), _small('{"content":"b"}', '"stop"', f',"usage":{_tokens(5, 2)}'), "[DONE]"])
ZERO_AFTER_REAL = _lines(
    [_small('{"content":"a"}', '"stop"', f',"usage":{_tokens(5, 2)}'), _small("{}", more=f',"usage":{_tokens(0, 0)}'), "[DONE]"]
)
GROQ = _lines(
    [
        _small('{"role":"assistant","content":""}', more=',"x_groq":{"id":"req_1"}'),
        _small('{"content":"fast"}'),
        _small("{}", '"stop"', f',"x_groq":{{"id":"req_1","usage":{_tokens(11, 4)}}}'),
        "[DONE]",
    ]
)
CHAT_ERROR = _lines(
    [_small('{"content":"a"}'), '{"error":{"message":"The server had an error","type":"server_error","param":null,"code":"boom"}}']
)
FIRST_ERROR = _lines(['{"error":{"message":"overloaded","type":"overloaded_error","code":529}}'])
CUT = _lines([_small('{"content":"a"}'), _small('{"content":"b"}')])[:-9]
MULTI_LINE = b"""id: 1
data: {"id":"c3","model":"m3",
data: "choices":[{"index":0,"delta":{"content":"x"},
data: "finish_reason":"stop"}]}

data: [DONE]

"""


def _ollama_completions() -> StreamCase:
    def chunk(text: str, reason: str, usage: str) -> str:
        choice = f'{{"text":"{text}","index":0,"finish_reason":{reason}}}'
        return f'{{"id":"cmpl-0","object":"text_completion","model":"llama","choices":[{choice}]{usage}}}'

    def stream(zero: str, last: list[str]) -> bytes:
        return _lines([chunk("Hi", "null", zero), chunk(" you", '"stop"', zero), *last, "[DONE]"])

    last = f'{{"id":"cmpl-0","object":"text_completion","model":"llama","choices":[],"usage":{_tokens(6, 2)}}}'
    return StreamCase(
        "completions", "ollama", stream(f',"usage":{_tokens(0, 0)}', [last]), stream("", []), Usage(input_tokens=6, output_tokens=2),
        "Hi you", ["stop"], "cmpl-0", "llama",
    )  # fmt: skip


def _response(status: str, usage: str = "null", more: str = "") -> str:
    return f'{{"id":"resp_1","object":"response","status":"{status}","background":false,"model":"gpt-5","output":[],"usage":{usage}{more}}}'


def _event(name: str, more: str) -> tuple[str, str]:
    return name, f'{{"type":"{name}","sequence_number":1,{more}}}'


RESPONSES_USAGE = (
    '{"input_tokens":30,"input_tokens_details":{"cached_tokens":8},"output_tokens":12,'
    '"output_tokens_details":{"reasoning_tokens":5},"total_tokens":42}'
)
RESPONSES_READ = Usage(input_tokens=30, output_tokens=12, cache_read_tokens=8, reasoning_tokens=5)
_RESPONSES_START = [
    _event("response.created", f'"response":{_response("in_progress")}'),
    _event("response.in_progress", f'"response":{_response("in_progress")}'),
    _event("response.output_item.added", '"output_index":0,"item":{"type":"message","content":[]}'),
    _event("response.output_text.delta", '"item_id":"msg_1","delta":"Good ","obfuscation":"x1"'),
    _event("response.output_text.delta", '"item_id":"msg_1","delta":"day","obfuscation":"x22"'),
    _event("response.output_text.done", '"item_id":"msg_1","text":"Good day"'),
]
RESPONSES = _named([*_RESPONSES_START, _event("response.completed", f'"response":{_response("completed", RESPONSES_USAGE)}')])
INCOMPLETE = ',"incomplete_details":{"reason":"max_output_tokens"}'
RESPONSES_INCOMPLETE = _named(
    [*_RESPONSES_START, _event("response.incomplete", f'"response":{_response("incomplete", RESPONSES_USAGE, INCOMPLETE)}')]
)
FAILED = ',"error":{"code":"server_error","message":"It broke."}'
RESPONSES_FAILED = _named([*_RESPONSES_START, _event("response.failed", f'"response":{_response("failed", "null", FAILED)}')])
RESPONSES_ERROR = _named(
    [*_RESPONSES_START, ("error", '{"type":"error","code":"rate_limit_exceeded","message":"Slow down.","param":null}')]
)

_MESSAGE_START = (
    '{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"claude-x","content":[],"stop_reason":null,'
    '"usage":{"input_tokens":10,"cache_creation_input_tokens":100,"cache_read_input_tokens":1000,'
    '"cache_creation":{"ephemeral_5m_input_tokens":40,"ephemeral_1h_input_tokens":60},"output_tokens":1,"service_tier":"standard"}}}'
)
ANTHROPIC = _named(
    [
        ("message_start", _MESSAGE_START),
        ("content_block_start", '{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}'),
        ("ping", '{"type":"ping"}'),
        ("content_block_delta", '{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Sure"}}'),
        ("content_block_delta", '{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"!"}}'),
        ("content_block_stop", '{"type":"content_block_stop","index":0}'),
        (
            "message_delta",
            '{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"input_tokens":0,"output_tokens":25}}',
        ),
        ("message_stop", '{"type":"message_stop"}'),
    ]
)
ANTHROPIC_READ = Usage(input_tokens=1110, output_tokens=25, cache_read_tokens=1000, cache_write_tokens=100, cache_write_1h_tokens=60)
ANTHROPIC_ERROR = _named(
    [
        (
            "message_start",
            '{"type":"message_start","message":{"id":"msg_2","model":"claude-x","usage":{"input_tokens":3,"output_tokens":1}}}',
        ),
        ("error", '{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}'),
    ]
)


def _gemini(text: str, more: str, candidates: int) -> str:
    content = f'{{"content":{{"parts":[{{"text":"{text}"}}],"role":"model"}}{more},"index":0}}'
    usage = f'{{"promptTokenCount":8,"candidatesTokenCount":{candidates},"thoughtsTokenCount":6,"totalTokenCount":{14 + candidates}}}'
    return f'{{"candidates":[{content}],"usageMetadata":{usage},"modelVersion":"gemini-x","responseId":"g1"}}'


GEMINI = _lines([_gemini("One", "", 1), _gemini(" two", ',"finishReason":"STOP"', 3)], "\r\n")

STREAMS: dict[str, StreamCase] = {
    "openai chat": _openai_chat(),
    "openai chat, CRLF": _openai_chat("\r\n"),
    "openai chat, CR": _openai_chat("\r"),
    "comments between events": _openai_chat(comments=True),
    "tool calls": _tool_calls(),
    "azure": _azure(),
    "spaces, null usage first": _spaced(True),
    "spaces, null usage in the middle": _spaced(False),
    "ollama completions": _ollama_completions(),
    "usage in every chunk": _same(
        "chat", "deepseek", USAGE_IN_EVERY_CHUNK, Usage(input_tokens=9, output_tokens=3), "abc", ["stop"], ("c2", "m2")
    ),
    "usage beside choices": _same(
        "chat", "gemini", USAGE_BESIDE_CHOICES, Usage(input_tokens=5, output_tokens=2), "ab", ["stop"], ("c2", "m2")
    ),
    "zero usage after a real one": _same(
        "chat", "groq", ZERO_AFTER_REAL, Usage(input_tokens=5, output_tokens=2), "a", ["stop"], ("c2", "m2")
    ),
    "groq": _same("chat", "groq", GROQ, Usage(input_tokens=11, output_tokens=4), "fast", ["stop"], ("c2", "m2")),
    "data over several lines": _same("chat", "openai", MULTI_LINE, None, "x", ["stop"], ("c3", "m3")),
    "error after content": _same("chat", "openai", CHAT_ERROR, None, "a", ["error"], ("c2", "m2"), False, "boom"),
    "error first": _same("chat", "openai", FIRST_ERROR, None, "", None, (None, None), False, "529"),
    "cut": _same("chat", "openai", CUT, None, "a", ["error"], ("c2", "m2"), False),
    "responses": _same("responses", "openai", RESPONSES, RESPONSES_READ, "Good day", ["completed"], ("resp_1", "gpt-5")),
    "responses, incomplete": _same(
        "responses", "openai", RESPONSES_INCOMPLETE, RESPONSES_READ, "Good day", ["max_output_tokens"], ("resp_1", "gpt-5")
    ),
    "responses, failed": _same(
        "responses", "openai", RESPONSES_FAILED, None, "Good day", ["failed"], ("resp_1", "gpt-5"), True, "server_error"
    ),
    "responses, error event": _same(
        "responses", "openai", RESPONSES_ERROR, None, "Good day", None, ("resp_1", "gpt-5"), True, "rate_limit_exceeded"
    ),
    "anthropic": _same("messages", "anthropic", ANTHROPIC, ANTHROPIC_READ, "Sure!", ["end_turn"], ("msg_1", "claude-x")),
    "anthropic, error": _same(
        "messages", "anthropic", ANTHROPIC_ERROR, Usage(input_tokens=3, output_tokens=1), "", None, ("msg_2", "claude-x"), True, None
    ),
    "gemini": _same(
        "gemini", "gemini", GEMINI, Usage(input_tokens=8, output_tokens=9, reasoning_tokens=6), "One two", ["STOP"], ("g1", "gemini-x")
    ),
}
"""By name. `error_code` None says that there is no error, or one without code."""
