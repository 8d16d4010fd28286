"""tiktoken's encodings, made from the rank files shipped with the package: nothing is ever downloaded.

Here: which encoding a model has, loading, counting the tokens of texts. Not here: which texts (prompt_text.py), threads (tokenizer.py).
"""

from __future__ import annotations

import base64
import ctypes
import gc
import hashlib
import lzma
import sys
from collections.abc import Iterator, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    import tiktoken

O200K = "o200k_base"
CL100K = "cl100k_base"

CL100K_MODELS = frozenset({"gpt-4"})
CL100K_PREFIXES = ("gpt-4-", "gpt-3.5", "gpt-35", "davinci-002", "babbage-002", "text-embedding-")
"""Models with the older encoding. Everything else, other providers' models too, is counted with o200k_base: the nearest there is."""

PER_FUNCTION_TOKENS = {O200K: 7, CL100K: 10}
"""What declaring one function costs beside its text, by OpenAI's cookbook."""

MAX_ENCODED_CHARS = 2_000_000  # of one prompt or reply; what is beyond is counted in proportion
SLICE_CHARS = 8_192
"""A long run of blanks overflows the stack of tiktoken's regex engine, which then panics: it never gets more than this at once."""


class Vocabulary(msgspec.Struct, frozen=True):
    """What tiktoken has to be told of one encoding."""

    sha256: str  # of the rank file, uncompressed
    pattern: str
    special_tokens: dict[str, int]


_O200K_PATTERN = "|".join(
    [
        r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
        r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
        r"""\p{N}{1,3}""",
        r""" ?[^\s\p{L}\p{N}]+[\r\n/]*""",
        r"""\s*[\r\n]+""",
        r"""\s+(?!\S)""",
        r"""\s+""",
    ]
)
_CL100K_PATTERN = (
    r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s"""
)

VOCABULARIES = {
    O200K: Vocabulary(
        "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
        _O200K_PATTERN,
        {"<|endoftext|>": 199999, "<|endofprompt|>": 200018},
    ),
    CL100K: Vocabulary(
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
        _CL100K_PATTERN,
        {"<|endoftext|>": 100257, "<|fim_prefix|>": 100258, "<|fim_middle|>": 100259, "<|fim_suffix|>": 100260, "<|endofprompt|>": 100276},
    ),
}
"""As in tiktoken 0.14.0, tiktoken_ext/openai_public.py."""


def encoding_of(model: str) -> str:
    """The name of the encoding of a model, under whatever provider's prefix or as a fine-tune of it."""
    name = model.rpartition("/")[2].lower().removeprefix("ft:")
    base = name.partition(":")[0]
    return CL100K if base in CL100K_MODELS or base.startswith(CL100K_PREFIXES) else O200K


def read_ranks(name: str) -> bytes:
    """The rank file of an encoding. Raises ValueError if it isn't the genuine one."""
    raw = lzma.decompress(files("proxy.data").joinpath("bpe", f"{name}.tiktoken.xz").read_bytes())
    if hashlib.sha256(raw).hexdigest() != VOCABULARIES[name].sha256:
        raise ValueError(f"the rank file of {name} has been changed")
    return raw


def load_encoding(name: str) -> tiktoken.Encoding:
    """The encoding, built from its rank file: about 0.3 s, 80 MB at its peak and 47 MB after."""
    import tiktoken

    vocabulary = VOCABULARIES[name]
    pairs = (line.split() for line in read_ranks(name).splitlines())
    ranks = {base64.b64decode(token): int(rank) for token, rank in pairs}
    encoding = tiktoken.Encoding(name, pat_str=vocabulary.pattern, mergeable_ranks=ranks, special_tokens=vocabulary.special_tokens)
    # The Rust side has its own copy; Python's is needed only to decode.
    encoding._mergeable_ranks = {}
    del ranks
    _give_memory_back()
    return encoding


def _give_memory_back() -> None:
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's; musl has none
        if trim is not None:
            trim(0)


class TokenCounter:
    """Counts the tokens of texts; encodings are loaded when first needed. For one thread."""

    def __init__(self) -> None:
        self._encodings: dict[str, tiktoken.Encoding] = {}

    def count(self, model: str, texts: Sequence[str]) -> int:
        """The tokens of all texts together. Beyond MAX_ENCODED_CHARS the rest is taken to be like the beginning."""
        total_chars = sum(map(len, texts))
        if not total_chars:
            return 0
        encode = self._encoding(encoding_of(model)).encode_ordinary
        tokens = encoded_chars = 0
        for piece in _slices(texts):
            tokens += len(encode(piece))
            encoded_chars += len(piece)
            if encoded_chars >= MAX_ENCODED_CHARS:
                break
        return round(tokens * total_chars / encoded_chars)

    def _encoding(self, name: str) -> tiktoken.Encoding:
        if name not in self._encodings:
            self._encodings[name] = load_encoding(name)
        return self._encodings[name]


def _slices(texts: Sequence[str]) -> Iterator[str]:
    """The texts in pieces of at most SLICE_CHARS, cut before a blank where there is one, as words begin with theirs."""
    for text in texts:
        start = 0
        while len(text) - start > SLICE_CHARS:
            blank = text.rfind(" ", start + SLICE_CHARS // 2, start + SLICE_CHARS)
            end = blank if blank > start else start + SLICE_CHARS
            yield text[start:end]
            start = end
        if start < len(text):
            yield text[start:]
