"""Personal data and secrets are taken out of texts: each kind, nothing that only looks like it, in linear time."""

from __future__ import annotations

import time

import pytest

from proxy.wire.redaction import redactor, without_secrets

CLEAN = redactor()
KEY = "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8s9"
PEM = "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIEow\nIBAAKCAQEA\n-----END RSA PRIVATE KEY-----"

FOUND = [
    ("email", "jane.doe+x@mail.example.co.uk"),
    ("phone", "+49 30 901820"),
    ("phone", "+1 (415) 555-2671"),
    ("phone", "(415) 555-2671"),
    ("phone", "415-555-2671"),
    ("phone", "030 901820"),
    ("credit_card", "4111 1111 1111 1111"),
    ("credit_card", "4111111111111111"),
    ("credit_card", "3782-822463-10005"),
    ("iban", "DE89 3704 0044 0532 0130 00"),
    ("iban", "GB82WEST12345698765432"),
    ("ssn", "123-45-6789"),
    ("ip_address", "192.168.10.254"),
    ("api_key", f"sk-{KEY}"),
    ("api_key", f"sk-proj-{KEY}_x"),
    ("api_key", "sk_live_" + "a1" * 12),
    ("api_key", "AIza" + "Sy_B" * 9),
    ("api_key", "hf_" + "aB" * 15),
    ("github_token", "ghp_" + "aB3" * 12),
    ("github_token", "github_pat_" + "aB3_" * 12),
    ("slack_token", "xoxb-1234567890-abcdef"),
    ("aws_key", "AKIAIOSFODNN7EXAMPLE"),
    ("aws_key", "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
    ("bearer_token", "Bearer abcdef0123456789"),
    ("jwt", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P"),
    ("private_key", PEM),
    ("private_key", PEM[:50]),
]


@pytest.mark.parametrize(("kind", "text"), FOUND)
@pytest.mark.parametrize("frame", ["{}", "I am {}.", '"{}"', "({}), é", "a\n{}\nb"])
def test_kind_is_taken_out(kind: str, text: str, frame: str) -> None:
    if text == PEM[:50]:
        frame = frame.partition("}")[0] + "}"  # a key that is cut is taken out to the end
    assert CLEAN(frame.format(text)) == frame.format(f"[REDACTED:{kind}]")


def test_password_in_a_url_is_taken_out_and_the_rest_stays() -> None:
    assert CLEAN("postgres://app:hunter2@db/orders") == "postgres://[REDACTED:password]@db/orders"


@pytest.mark.parametrize(
    "text",
    [
        "The answer is 42, or 1234567.",
        "In 2024-05-17 we sold 1,000,000 for 12.50.",
        "version 1.2.3, section 10.4.1.2.7",
        "4111 1111 1111 1112",  # no card: the check digit is wrong
        "XX00 ABCD EFGH IJKL MN",
        "000-12-3456",
        "a @ b, @user, x@y",
        "task-force sk-short risk-averse-but-long-enough-words",
        "550e8400-e29b-41d4-a716-446655440000",
        "Bearer of news",
        "1790000000123456",
        "eyJ",
        "",
    ],
)
def test_what_only_looks_like_it_stays(text: str) -> None:
    assert CLEAN(text) == text


def test_several_kinds_in_one_text() -> None:
    assert CLEAN("a@b.co and a@b.co, 4111111111111111") == "[REDACTED:email] and [REDACTED:email], [REDACTED:credit_card]"


def test_expressions_of_the_user_are_taken_out_as_custom() -> None:
    clean = redactor([r"\bCUST-\d{6}\b", "(?i)geheim"])
    assert clean("é CUST-123456 GEHEIM a@b.co CUST-12") == "é [REDACTED:custom] [REDACTED:custom] [REDACTED:email] CUST-12"


def test_credentials_are_taken_out_first() -> None:
    clean = without_secrets(CLEAN, ["plain-secret", "sk-" + KEY])
    assert clean(f"plain-secret sk-{KEY} a@b.co") == "[REDACTED:credential] [REDACTED:credential] [REDACTED:email]"


MIB = 1 << 20
HOSTILE = [
    "a", "a@", "@", "a.", "a@a.", "a@a.a.", "1", "1 ", "1-", "1.", "12.", "+1", "+1 ", "(1", "sk-", "sk-a", "eyJ", "eyJ.", "eyJaaaaaaaa.",
    "eyJ-", "AKIA", "-----BEGIN ", "-----BEGIN " + "PRIVATE KEY-----", "-----BEGIN A A A ", "://a:", "://", "://a:b", "Bearer ", "bearer\t",
    "AA11", "AA11 ", "A1 ", "gh", "ghp_", "xoxb-", "aws_secret_access_key=", "0123 ", "123-45-", "hf_", "\u00e9", " ", "\n", "PRIVATE KEY",
]  # fmt: skip


@pytest.mark.parametrize("unit", HOSTILE)
def test_hostile_text_takes_linear_time(unit: str) -> None:
    def seconds(size: int) -> float:
        text = (unit * (size // len(unit)))[:size]
        times = []
        for _ in range(2):
            began = time.process_time()
            CLEAN(text)
            times.append(time.process_time() - began)
        return min(times)

    assert seconds(MIB) < 5  # a quadratic pattern takes minutes
    assert seconds(MIB) < 24 * seconds(MIB // 8) + 0.05


def test_hostile_expression_takes_linear_time() -> None:
    began = time.process_time()
    redactor(["(a+)+$", "(a|aa)+b"])("a" * MIB)
    assert time.process_time() - began < 5
