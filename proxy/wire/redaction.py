"""Personal data and secrets in a text, replaced by what they are: `[REDACTED:email]`.

Here: the built-in patterns, and the user's. Not here: which texts are looked through (content), what is recorded at all.
Texts are hostile and the event loop waits, so a built-in pattern takes linear time: it begins only where what it repeats doesn't go on from
before (the lookbehinds), gives nothing back that it took (`++`), or counts its repetitions. The user's run on RE2, which is linear.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

Clean = Callable[[str], str]
"""A text in, the same without what must not leave the gate."""

SHORTEST_FOUND = 6  # a@b.co


def mark(kind: str) -> str:
    """What stands for something that was taken out."""
    return f"[REDACTED:{kind}]"


def _passes_luhn(text: str) -> bool:
    digits = [int(character) for character in text if character.isdigit()]
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[-2::-2]]
    return (sum(doubled) + sum(digits[::-2])) % 10 == 0


def _passes_iban(text: str) -> bool:
    """ISO 13616: the country and check digits moved to the end, letters as numbers, 1 modulo 97."""
    compact = text.replace(" ", "")
    return int("".join(str(int(character, 36)) for character in compact[4:] + compact[:4])) % 97 == 1


class _Pattern(NamedTuple):
    kind: str
    needs: tuple[str, ...]  # one of these is in every text that can match; () if nothing so simple is
    expression: str
    flags: int
    check: Callable[[str], bool] | None = None


def _pattern(kind: str, needs: str, expression: str, check: Callable[[str], bool] | None = None, flags: int = 0) -> _Pattern:
    return _Pattern(kind, tuple(needs.split()), expression, flags | re.ASCII, check)


_TOKEN = r"[A-Za-z0-9_-]"
_NOT_WITHIN = rf"(?<!{_TOKEN})"
_SECRET = r"[~+/=\w-]"
_OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_PEM = r"(?:[A-Z0-9]{1,16} ){0,3}PRIVATE KEY(?: BLOCK)?-----"

_PATTERNS = (
    _pattern("private_key", "PRIVATE", rf"-----BEGIN {_PEM}.*?(?:-----END {_PEM}|\Z)", flags=re.DOTALL),
    _pattern("jwt", "eyJ", rf"{_NOT_WITHIN}eyJ{_TOKEN}{{8,}}+\.{_TOKEN}{{8,}}+(?:\.{_TOKEN}*+)?"),
    _pattern("bearer_token", "earer EARER", rf"(?i:\bbearer)[ \t]{{1,8}}(?=[.~+/=\w-]{{8}}){_SECRET}++(?:\.{_SECRET}++)*+"),
    _pattern("api_key", "sk- pk- rk-", rf"{_NOT_WITHIN}[spr]k-{_TOKEN}{{16,}}+"),
    _pattern("api_key", "sk_ pk_ rk_ whsec_", rf"{_NOT_WITHIN}(?:[spr]k_(?:live|test)|whsec)_[A-Za-z0-9]{{10,}}+"),
    _pattern("api_key", "AIza", rf"{_NOT_WITHIN}AIza{_TOKEN}{{30,}}+"),
    _pattern("api_key", "hf_ gsk_ xai-", rf"{_NOT_WITHIN}(?:hf_|gsk_|xai-)[A-Za-z0-9]{{20,}}+"),
    _pattern("github_token", "gh github_pat_", rf"{_NOT_WITHIN}(?:gh[pousr]_[A-Za-z0-9]{{30,}}+|github_pat_[A-Za-z0-9_]{{30,}}+)"),
    _pattern("slack_token", "xox", rf"{_NOT_WITHIN}xox[abeoprs]-{_TOKEN}{{10,}}+"),
    _pattern("aws_key", "AKIA ASIA", r"(?<![A-Za-z0-9])A(?:KI|SI)A[A-Z0-9]{16}(?![A-Za-z0-9])"),
    _pattern("aws_key", "aws AWS", r"(?i:aws_?secret_?(?:access_?)?key)[\"']?[ \t]{0,8}[:=][ \t]{0,8}[\"']?[A-Za-z0-9/+=]{40}"),
    _pattern("password", "://", r"(?<=://)[^\s/:@]{1,128}:[^\s/@]{1,256}(?=@)"),
    _pattern("email", "@", r"(?<![\w.+%-])[\w.+%-]++@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,63}"),
    _pattern("iban", "", r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?![A-Za-z0-9])", _passes_iban),
    _pattern("credit_card", "", r"(?<!\w)\d(?:[ -]?\d){12,18}(?!\w)", _passes_luhn),
    _pattern("ssn", "-", r"(?<![\w-])(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\w-])"),
    _pattern("ip_address", ".", rf"(?<![\w.])(?:{_OCTET}\.){{3}}{_OCTET}(?!\w|\.\d)"),
    _pattern("phone", "+", r"(?<![\w+])\+\d(?:[ ().-]{0,2}\d){6,14}(?!\w)"),
    _pattern("phone", "", r"(?<![\w.-])(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}(?![\w-])"),
    _pattern("phone", "", r"(?<![\w.-])(?:\(0\d{2,4}\)|0\d{2,4})[ /-]\d{3,4}[ -]?\d{2,5}(?![\w-])"),
)
"""In this order: what is longest and surest first."""

_ANY_DIGITS = re.compile(r"\d\d")


@cache
def _compiled_patterns() -> tuple[tuple[_Pattern, re.Pattern[str]], ...]:
    """The built-in patterns, ready: it takes 3 ms, which only who redacts has to spend."""
    return tuple((pattern, re.compile(pattern.expression, pattern.flags)) for pattern in _PATTERNS)


def redactor(patterns: Sequence[str] = ()) -> Clean:
    """What takes out the built-in kinds, and as `custom` what matches one of `patterns`, RE2 expressions that were checked at load."""
    known, custom = _compiled_patterns(), _compiled(patterns)

    def clean(text: str) -> str:
        if len(text) >= SHORTEST_FOUND:
            text = _without_known(text, known)
        for expression in custom:
            text = expression(text)
        return text

    return clean


def _without_known(text: str, known: Sequence[tuple[_Pattern, re.Pattern[str]]]) -> str:
    has_digits = _ANY_DIGITS.search(text) is not None
    for pattern, search in known:
        may_match = has_digits and not pattern.needs
        for need in pattern.needs:  # not `any`: this runs for every text, and a generator costs more than the search
            if need in text:
                may_match = True
                break
        if may_match:
            text = search.sub(_replacement(mark(pattern.kind), pattern.check), text)
    return text


def _replacement(marked: str, check: Callable[[str], bool] | None) -> Callable[[re.Match[str]], str]:
    return lambda match: match[0] if check is not None and not check(match[0]) else marked


def _compiled(patterns: Sequence[str]) -> list[Clean]:
    if not patterns:
        return []
    import re2  # type: ignore[import-untyped]  # only where it is asked for: it costs memory

    marked = mark("custom")
    return [_substitution(re2.compile(pattern), marked) for pattern in patterns]


def _substitution(expression: re.Pattern[str], marked: str) -> Clean:
    return lambda text: expression.sub(marked, text) if expression.search(text) is not None else text


def without_secrets(clean: Clean, secrets: Sequence[str]) -> Clean:
    """The same, and each of `secrets` taken out first."""
    if not secrets:
        return clean
    marked = mark("credential")

    def clean_all(text: str) -> str:
        for secret in secrets:
            text = text.replace(secret, marked)
        return clean(text)

    return clean_all
