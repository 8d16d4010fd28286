"""The most that a call can use."""

from __future__ import annotations

import statistics
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.schema import Provider
from proxy.observer.encodings import TokenCounter
from proxy.policy.bounds import (
    AUDIO_BYTES_PER_TOKEN,
    HIDDEN_TOKENS,
    HIDDEN_TOOL_TOKENS,
    IMAGE_TOKENS,
    OLD_CHATS,
    Ask,
    ModelLimits,
    UsageBound,
    likely_tokens,
    upper_bound,
)

KNOWN = ModelLimits(context_window=10_000, max_output_tokens=500, image_tokens=1_000)
UNKNOWN = ModelLimits()


def bound(ask: Ask, limits: ModelLimits = KNOWN, provider: str = "openai") -> UsageBound | None:
    return upper_bound(ask, provider, limits)


def test_every_byte_may_be_a_token() -> None:
    assert bound(Ask("chat", 100, output_tokens=7)) == UsageBound(100 + HIDDEN_TOKENS, 7)


def test_tools_bring_what_the_provider_writes_for_them() -> None:
    assert bound(Ask("chat", 100, hidden_tools=2, output_tokens=7)) == UsageBound(100 + HIDDEN_TOKENS + 2 * HIDDEN_TOOL_TOKENS, 7)


def test_images_count_as_much_as_the_model_takes_for_one() -> None:
    found = bound(Ask("chat", 100, images=3, output_tokens=7))
    assert found == UsageBound(100 + HIDDEN_TOKENS + 3_000, 7, may_have_images=True)


def test_an_image_at_an_unknown_model_counts_as_at_the_dearest_known() -> None:
    assert bound(Ask("chat", 100, images=1, output_tokens=7), UNKNOWN) == UsageBound(100 + HIDDEN_TOKENS + IMAGE_TOKENS, 7, True)


def test_sound_counts_by_its_size_rounded_up() -> None:
    found = bound(Ask("chat", 100, audio_bytes=AUDIO_BYTES_PER_TOKEN + 1, output_tokens=7))
    assert found == UsageBound(100 + HIDDEN_TOKENS + 2, 7, may_have_audio=True)


@pytest.mark.parametrize("operation", ["chat", "generate_content"])
def test_a_prompt_is_never_longer_than_the_context_window(operation: str) -> None:
    assert bound(Ask(operation, 1_000_000, output_tokens=7)) == UsageBound(10_000, 7)


@pytest.mark.parametrize("operation", ["text_completion", "embeddings"])
def test_several_inputs_have_a_window_each(operation: str) -> None:
    found = bound(Ask(operation, 1_000_000, output_tokens=7))
    assert found is not None
    assert found.input_tokens == 1_000_000 + HIDDEN_TOKENS


def test_what_is_not_in_the_request_may_fill_the_window() -> None:
    assert bound(Ask("chat", 10, is_whole=False, output_tokens=7)) == UsageBound(10_000, 7, may_have_images=True, may_have_audio=True)


def test_what_is_not_in_the_request_has_no_bound_without_a_window() -> None:
    assert bound(Ask("chat", 10, is_whole=False, output_tokens=7), UNKNOWN) is None
    assert bound(Ask("embeddings", 10, is_whole=False)) is None


def test_choices_and_prompts_are_paid_for_one_by_one() -> None:
    found = bound(Ask("text_completion", 100, prompts=3, output_tokens=7, choices=5))
    assert found == UsageBound(100 + HIDDEN_TOKENS, 7 * 3 * 5)


@pytest.mark.parametrize(
    ("limits", "output_tokens"),
    [
        (KNOWN, 500),
        (ModelLimits(context_window=10_000), 10_000),
        (ModelLimits(max_output_tokens=500), 500),
        (KNOWN.declared(None, 900), 900),
        (ModelLimits(max_output_tokens=500).declared(20_000, None), 500),
        (UNKNOWN.declared(20_000, None), 20_000),
    ],
)
def test_a_reply_without_a_limit_is_as_long_as_the_model_writes(limits: ModelLimits, output_tokens: int) -> None:
    found = bound(Ask("chat", 100, choices=2), limits)
    assert found is not None
    assert found.output_tokens == output_tokens * 2


def test_a_reply_without_any_limit_has_no_bound() -> None:
    assert bound(Ask("chat", 100), UNKNOWN) is None


def test_what_is_declared_wins_over_what_is_shipped() -> None:
    assert KNOWN.declared(8_000, None) == ModelLimits(8_000, 500, 1_000)
    assert KNOWN.declared(None, None) is KNOWN


def test_embeddings_write_nothing() -> None:
    assert bound(Ask("embeddings", 100), UNKNOWN) == UsageBound(100 + HIDDEN_TOKENS, 0)


@pytest.mark.parametrize("provider", ["ollama", "compatible", "mistral", "deepseek"])
def test_a_limit_that_a_provider_may_pass_over_is_none(provider: str) -> None:
    assert bound(Ask("chat", 100, output_tokens=7), provider=provider) == UsageBound(100 + HIDDEN_TOKENS, 500)
    assert bound(Ask("chat", 100, output_tokens=9, old_output_tokens=7), provider=provider) == UsageBound(100 + HIDDEN_TOKENS, 7)


def test_every_provider_that_may_pass_over_a_limit_is_one() -> None:
    assert set(get_args(Provider)) >= OLD_CHATS


@pytest.mark.parametrize("operation", ["image_generation", "speech", "transcription", "translation", "rerank", ""])
def test_what_is_not_counted_in_tokens_of_a_prompt_has_no_bound(operation: str) -> None:
    assert bound(Ask(operation, 100, output_tokens=7)) is None


def test_a_budget_of_tokens_counts_both_ways() -> None:
    assert UsageBound(100, 7).tokens == 107


# ------------------------------------------------------------------------------------------- what a text probably has

SAMPLES = {
    "English": "First check the logs, then restart the service, and only then look for a regression in the last release.",
    "German": "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit Vernunft und Gewissen begabt.",
    "French": "Tous les êtres humains naissent libres et égaux en dignité et en droits, doués de raison et de conscience.",
    "Spanish": "Todos los seres humanos nacen libres e iguales en dignidad y derechos, dotados como están de razón.",
    "Polish": "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw. Są oni obdarzeni rozumem.",
    "Turkish": "Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar. Akıl ve vicdana sahiptirler.",
    "Finnish": "Kaikki ihmiset syntyvät vapaina ja tasavertaisina arvoltaan ja oikeuksiltaan. Heille on annettu järki.",
    "Vietnamese": "Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm và quyền lợi.",
    "Russian": "Все люди рождаются свободными и равными в своем достоинстве и правах. Они наделены разумом и совестью.",
    "Greek": "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα.",
    "Hebrew": "כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם. כולם חוננו בתבונה ובמצפון.",
    "Arabic": "يولد جميع الناس أحرارا متساوين في الكرامة والحقوق. وقد وهبوا عقلا وضميرا.",
    "Hindi": "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है।",
    "Thai": "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ ต่างมีเหตุผลและมโนธรรม",
    "Chinese": "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。",
    "Japanese": "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。",
    "Korean": "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.",
    "Python": "class Reader:\n    def __init__(self, path: str) -> None:\n        self._path = path\n        self._lines: list[str] = []\n",
    "JavaScript": "for (let i = 0; i < retries; i++) {\n  const reply = await fetch(url);\n  if (reply.ok) return reply.json();\n}\n",
    "JSON": '{"id": "A-10023", "items": [{"sku": "AB-12", "count": 3, "price": 12.5}, {"sku": "CD-7", "count": 1}], "paid": true}',
    "a table": "| Region | Q1 | Q2 | Change |\n|---|---:|---:|---:|\n| North | 12,450 | 13,980 | +12.3 % |\n",
}


def likely(text: str) -> int:
    ascii_chars = sum(character.isascii() for character in text)
    return likely_tokens(ascii_chars, len(text) - ascii_chars)


@pytest.mark.parametrize(("model", "median_error", "on_the_high_side"), [("gpt-4o", 0.4, 17), ("gpt-4", 0.25, 7)])
def test_likely_tokens_are_near_what_a_tokenizer_finds(model: str, median_error: float, on_the_high_side: int) -> None:
    counter = TokenCounter()
    ratios = {name: likely(text) / counter.count(model, [text]) for name, text in SAMPLES.items()}
    assert statistics.median(abs(ratio - 1) for ratio in ratios.values()) <= median_error
    assert sum(ratio >= 1 for ratio in ratios.values()) >= on_the_high_side
    assert min(ratios.values()) > 0.5
    assert max(ratios.values()) < 3


@given(st.text())
def test_likely_tokens_are_never_more_than_the_bytes(text: str) -> None:
    encoded = text.encode("utf-8", "replace")
    assert likely(encoded.decode()) <= len(encoded)
    assert (likely(text) == 0) == (text == "")
