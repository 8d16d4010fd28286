from __future__ import annotations

import ast
import importlib
import inspect
import json
import threading

import pytest
import tiktoken.model

from proxy.call import Outcome, Price, UsageSource
from proxy.data.price_data import read_prices
from proxy.observer import counters, encodings, tokenizer
from proxy.observer.counters import Counters
from proxy.observer.encodings import CL100K, O200K, VOCABULARIES, TokenCounter, encoding_of
from proxy.observer.tokenizer import CountingThread, UsageCounter, needs_count
from proxy.observer_settings import ObserverSettings, PricedTarget
from proxy.policy.price_match import ShippedPrices
from proxy.policy.pricing import PriceBook
from proxy.records import AttemptRecord, CallRecord, Uncounted
from tests.call_records import attempt_record, call_record, uncounted

WAIT_S = 10.0

# OpenAI's cookbook, "How to count tokens with tiktoken": what the API itself reported for these.
COOKBOOK_MESSAGES = [
    {
        "role": "system",
        "content": "You are a helpful, pattern-following assistant that translates corporate jargon into plain English.",
    },
    {"role": "system", "name": "example_user", "content": "New synergies will help drive top-line growth."},
    {"role": "system", "name": "example_assistant", "content": "Things working well together will increase revenue."},
    {
        "role": "system",
        "name": "example_user",
        "content": "Let's circle back when we have more bandwidth to touch base on opportunities for increased leverage.",
    },
    {"role": "system", "name": "example_assistant", "content": "Let's talk later when we're less busy about how to do better."},
    {"role": "user", "content": "This late pivot means we don't have time to boil the ocean for the client deliverable."},
]
COOKBOOK_WITH_TOOLS = {
    "messages": [
        {"role": "system", "content": "You are a helpful assistant that can answer to questions about the weather."},
        {"role": "user", "content": "What's the weather like in San Francisco?"},
    ],
    "tools": [
        {
            "type": "function",
            "function": {
                "name": "get_current_weather",
                "description": "Get the current weather in a given location",
                "parameters": {
                    "type": "object",
                    "properties": {
                        "location": {"type": "string", "description": "The city and state, e.g. San Francisco, CA"},
                        "unit": {
                            "type": "string",
                            "description": "The unit of temperature to return",
                            "enum": ["celsius", "fahrenheit"],
                        },
                    },
                    "required": ["location"],
                },
            },
        }
    ],
}


def price_book() -> PriceBook:
    return PriceBook(ShippedPrices(read_prices()), {})


@pytest.fixture(scope="module")
def counter() -> UsageCounter:
    settings = ObserverSettings(".", "1", targets={"local": PricedTarget("ollama", Price(per_million={"input": 1.0, "output": 2.0}))})
    return UsageCounter(settings, price_book, Counters())


@pytest.fixture(scope="module")
def tokens() -> TokenCounter:
    return TokenCounter()


def unpriced_attempt(raw: Uncounted, **changes: object) -> AttemptRecord:
    return attempt_record(usage=None, cost=None, uncounted=raw, **changes)


def counted(
    counter: UsageCounter, body: object, reply: bytes = b"", *, is_stream: bool = False, operation: str = "chat", **changes: object
) -> AttemptRecord:
    attempt = unpriced_attempt(uncounted(json.dumps(body).encode(), reply, is_stream), **changes)
    counter.fill(call_record(operation=operation, attempts=[attempt]))
    return attempt


def input_tokens(counter: UsageCounter, body: object, **changes: object) -> int | None:
    usage = counted(counter, body, **changes).usage  # type: ignore[arg-type]
    return None if usage is None else usage.input_tokens


@pytest.mark.parametrize(("model", "expected"), [("gpt-4-0613", 129), ("gpt-3.5-turbo-0125", 129), ("gpt-4o-2024-08-06", 124)])
def test_messages_are_counted_as_openai_does(counter: UsageCounter, model: str, expected: int) -> None:
    assert input_tokens(counter, {"messages": COOKBOOK_MESSAGES}, model=model) == expected


@pytest.mark.parametrize(("model", "expected"), [("gpt-4", 105), ("gpt-4o", 101)])
def test_tools_are_counted_as_openai_does(counter: UsageCounter, model: str, expected: int) -> None:
    assert input_tokens(counter, COOKBOOK_WITH_TOOLS, model=model) == expected


def test_images_are_not_counted_as_text(counter: UsageCounter) -> None:
    text = {"type": "text", "text": "What is this?"}
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 5000}}
    plain = input_tokens(counter, {"messages": [{"role": "user", "content": [text]}]})
    assert input_tokens(counter, {"messages": [{"role": "user", "content": [text, picture]}]}) == plain


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "user", "content": "tell me"}]},
        {"input": [{"role": "user", "content": [{"type": "input_text", "text": "tell me"}]}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "tell me"}]}]},
        {"contents": [{"role": "user", "parts": [{"text": "tell me"}]}]},
    ],
)
def test_a_message_counts_the_same_in_every_dialect(counter: UsageCounter, body: object) -> None:
    assert input_tokens(counter, body) == 2 + 1 + 3 + 3  # text, role, message, reply


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"input": "tell me"}, 2),
        ({"input": ["tell me", "tell me"]}, 4),
        ({"input": [1, 2, 3]}, 3),
        ({"input": [[1, 2], [3]]}, 3),
        ({"prompt": "tell me"}, 2),
    ],
)
def test_bare_prompts_are_text_or_token_ids(counter: UsageCounter, body: object, expected: int) -> None:
    assert input_tokens(counter, body, operation="embeddings") == expected


def test_embeddings_have_no_output(counter: UsageCounter) -> None:
    usage = counted(counter, {"input": "tell me"}, operation="embeddings").usage
    assert usage is not None
    assert usage.output_tokens is None


STREAMED = (
    b'data: {"choices":[{"delta":{"role":"assistant","content":"hello"}}]}\n\n'
    b'data: {"choices":[{"delta":{"content":" world"}}]}\n\ndata: {"choices":[{"delta":{"con'
)


def test_cut_stream_counts_what_was_received(counter: UsageCounter) -> None:
    attempt = counted(counter, {"messages": [{"role": "user", "content": "hi"}]}, STREAMED, is_stream=True, outcome=Outcome.ABANDONED)
    assert attempt.usage is not None
    assert (attempt.usage.output_tokens, attempt.usage.source) == (2, UsageSource.TOKENIZER)
    assert attempt.uncounted is None


def test_text_let_go_by_the_gate_is_counted_too(counter: UsageCounter) -> None:
    raw = uncounted(b'{"prompt":"x"}', STREAMED, True, reply_text="one two three ")
    attempt = unpriced_attempt(raw)
    counter.fill(call_record(attempts=[attempt]))
    assert attempt.usage is not None
    assert attempt.usage.output_tokens == 5


@pytest.mark.parametrize(
    ("reply", "is_stream"),
    [
        (b'{"choices":[{"message":{"role":"assistant","content":"hello world"}}],"usage":null}', False),
        (b'{"output":[{"type":"message","content":[{"type":"output_text","text":"hello world"}]}],"instructions":"no"}', False),
        (b'{"content":[{"type":"text","text":"hello world"}],"role":"assistant"}', False),
        (b'{"candidates":[{"content":{"parts":[{"text":"hello world"}],"role":"model"}}]}', False),
        (
            b'data: {"type":"response.output_text.delta","delta":"hello world"}\n\ndata: {"type":"response.done","text":"hello world"}\n\n',
            True,
        ),
        (b'data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"hello world"}}\n\n', True),
    ],
)  # fmt: skip
def test_output_is_found_in_every_dialect(counter: UsageCounter, reply: bytes, is_stream: bool) -> None:
    usage = counted(counter, {"prompt": "x"}, reply, is_stream=is_stream).usage
    assert usage is not None
    assert usage.output_tokens == 2


def test_tool_calls_are_output(counter: UsageCounter) -> None:
    calls = b'{"choices":[{"message":{"content":null,"tool_calls":[{"function":{"name":"f","arguments":"{}"}}]}}]}'
    usage = counted(counter, {"prompt": "x"}, calls).usage
    assert usage is not None
    assert usage.output_tokens is not None
    assert usage.output_tokens > 0


def test_bodies_that_were_cut_are_scaled(counter: UsageCounter) -> None:
    whole = json.dumps({"messages": [{"role": "user", "content": "tell me " * 1000}]}).encode()
    attempt = unpriced_attempt(uncounted(whole[:4000], request_bytes=len(whole)))
    counter.fill(call_record(attempts=[attempt]))
    assert attempt.usage is not None
    assert attempt.usage.input_tokens == pytest.approx(2000, rel=0.05)


def test_counted_usage_is_priced(counter: UsageCounter) -> None:
    shipped = counted(counter, {"prompt": "x"})
    assert shipped.cost is not None
    assert shipped.cost.total_nusd > 0
    declared = counted(counter, {"prompt": "tell me"}, STREAMED, is_stream=True, target="local", provider="ollama", model="llama")
    assert declared.cost is not None
    assert declared.cost.total_nusd == 2 * 1000 + 2 * 2000


def test_unknown_price_is_said_and_costs_nothing_invented(counter: UsageCounter) -> None:
    attempt = counted(counter, {"prompt": "x"}, model="nobody-knows-it", response_model=None)
    assert (attempt.cost, attempt.unpriced) == (None, True)


@pytest.mark.parametrize(
    "changes",
    [
        {"outcome": Outcome.REJECTED, "status": 400},
        {"outcome": Outcome.THROTTLED, "status": 429},
        {"outcome": Outcome.FAILED, "error_type": "connect"},
    ],
)
def test_what_was_refused_or_never_sent_used_nothing(counter: UsageCounter, changes: dict[str, object]) -> None:
    attempt = counted(counter, {"prompt": "x"}, **changes)  # type: ignore[arg-type]
    assert (attempt.usage, attempt.cost, attempt.uncounted) == (None, None, None)


def test_what_holds_no_text_stays_unknown(counter: UsageCounter) -> None:
    for attempt in (counted(counter, {"prompt": "x"}, operation="image_generation"), counted(counter, ["no", "object"])):
        assert attempt.usage is None
        assert attempt.uncounted is not None


def test_a_read_is_never_counted() -> None:
    attempts = [unpriced_attempt(uncounted(b"{}"))]
    assert needs_count(call_record(attempts=attempts))
    assert not needs_count(call_record(attempts=attempts, billable=False))
    assert not needs_count(call_record())


@pytest.mark.parametrize("text", ["<|endoftext|>", " " * 200_000, "a" * 200_000, "\ud800 lone", ""])
def test_no_text_breaks_the_counter(tokens: TokenCounter, text: str) -> None:
    for model in ("gpt-4o", "gpt-4"):
        assert tokens.count(model, [text]) >= (1 if text else 0)


def test_special_tokens_in_a_prompt_are_plain_text(tokens: TokenCounter) -> None:
    assert tokens.count("gpt-4o", ["<|endoftext|>"]) > 1


def test_slices_change_next_to_nothing(tokens: TokenCounter) -> None:
    text = "The quick brown fox jumps over the lazy dog. " * 2000
    assert tokens.count("gpt-4o", [text]) == 10 * 2000 + 1


def test_very_large_input_is_counted_by_its_beginning(tokens: TokenCounter, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "The quick brown fox jumps over the lazy dog. " * 2000
    monkeypatch.setattr(encodings, "MAX_ENCODED_CHARS", 20_000)
    assert tokens.count("gpt-4o", [text]) == pytest.approx(20_000, rel=0.01)


def test_models_have_the_encoding_tiktoken_says() -> None:
    known = {O200K: O200K, CL100K: CL100K, "o200k_harmony": O200K}
    prefixed = {
        prefix + (":acme" if prefix.startswith("ft:") else "x"): name for prefix, name in tiktoken.model.MODEL_PREFIX_TO_ENCODING.items()
    }
    listed = {model: known[name] for model, name in (tiktoken.model.MODEL_TO_ENCODING | prefixed).items() if name in known}
    assert len(listed) > 20
    assert {model: encoding_of(model) for model in listed} == listed


@pytest.mark.parametrize(
    ("model", "encoding"),
    [
        ("ft:gpt-4.1-mini:acme", O200K),  # tiktoken says cl100k
        ("ft:gpt-4:acme", CL100K),
        ("openai/gpt-4-turbo", CL100K),
        ("sim/gpt-4", CL100K),
        ("gpt-6", O200K),
        ("claude-sonnet-5", O200K),
        ("", O200K),
    ],
)
def test_encoding_of_models_tiktoken_does_not_know(model: str, encoding: str) -> None:
    assert encoding_of(model) == encoding


def installed_vocabulary(name: str) -> dict[str, object]:
    """What the installed tiktoken says of an encoding, read from its source: calling it would download."""
    module = importlib.import_module("tiktoken_ext.openai_public")
    tree = ast.parse(inspect.getsource(module))
    (function,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
    found: dict[str, object] = {}
    scope = dict(vars(module))

    def load_nothing(_url: str, expected_hash: str) -> dict[bytes, int]:
        found["sha256"] = expected_hash
        return {}

    scope["load_tiktoken_bpe"] = load_nothing
    exec(compile(ast.Module([function], []), "openai_public", "exec"), scope)
    return {**scope[name](), **found}


@pytest.mark.parametrize("name", VOCABULARIES)
def test_vocabularies_are_the_installed_tiktokens(name: str) -> None:
    installed = installed_vocabulary(name)
    ours = VOCABULARIES[name]
    assert (ours.pattern, ours.special_tokens, ours.sha256) == (installed["pat_str"], installed["special_tokens"], installed["sha256"])


def test_changed_rank_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.observer.encodings.lzma.decompress", lambda raw: b"IQ== 0\n")
    with pytest.raises(ValueError, match="changed"):
        encodings.read_ranks(CL100K)


class Finished:
    """Collects what a counting thread hands on."""

    def __init__(self) -> None:
        self.records: list[tuple[int, CallRecord]] = []
        self._changed = threading.Condition()

    def __call__(self, sequence: int, record: CallRecord) -> None:
        with self._changed:
            self.records.append((sequence, record))
            self._changed.notify_all()

    def wait(self, count: int) -> list[int]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.records) >= count, WAIT_S)
            return [sequence for sequence, _ in self.records]


def waiting_record(size: int = 10) -> CallRecord:
    return call_record(attempts=[unpriced_attempt(uncounted(b"x" * size))])


def test_counted_records_are_handed_on_in_order() -> None:
    finished = Finished()
    thread = CountingThread(lambda record: None, finished, Counters())
    for sequence in range(3):
        thread.offer(sequence, waiting_record())
    assert finished.wait(3) == [0, 1, 2]
    thread.close(WAIT_S)


def test_a_count_that_fails_hands_the_record_on_unknown() -> None:
    finished, totals = Finished(), Counters()

    class Panic(BaseException):
        """As tiktoken's."""

    def fail(_record: CallRecord) -> None:
        raise Panic

    thread = CountingThread(fail, finished, totals)
    thread.offer(0, waiting_record())
    thread.offer(1, waiting_record())
    assert finished.wait(2) == [0, 1]
    assert totals.get(counters.UNCOUNTABLE) == 2
    thread.close(WAIT_S)


def test_too_much_to_count_is_handed_on_uncounted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer, "MAX_WAITING_BYTES", 100)
    finished, totals, may_go = Finished(), Counters(), threading.Event()
    thread = CountingThread(lambda record: (may_go.wait(WAIT_S), None)[1], finished, totals)
    thread.offer(0, waiting_record(101))
    assert finished.wait(1) == [0]
    assert totals.get(counters.DROPPED_COUNTS_QUEUE_FULL) == 1
    may_go.set()
    thread.close(WAIT_S)


def test_closing_does_not_wait_for_a_count_without_end() -> None:
    finished, totals, may_go = Finished(), Counters(), threading.Event()
    thread = CountingThread(lambda record: (may_go.wait(WAIT_S), None)[1], finished, totals)
    for sequence in range(3):
        thread.offer(sequence, waiting_record())
    thread.close(0.05)
    assert finished.wait(3) == [0, 1, 2]
    assert totals.get(counters.DROPPED_COUNTS_SHUTDOWN) == 3
    may_go.set()
