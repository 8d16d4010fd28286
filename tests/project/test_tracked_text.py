"""What must not be written down: paths of one machine, hosts of package registries, secrets."""

from __future__ import annotations

import re

import pytest

from tests.project.tree import ROOT, project_files

PATTERNS = {
    "a path of one machine": re.compile(rb"(?<![\w.$})-])/(?:work|root|home|farm|Users)/\w"),
    "a registry's host": re.compile(
        rb"\b(?:pypi\.org|pythonhosted\.org|npmjs\.(?:org|com)|crates\.io|rubygems\.org|(?:deb|ftp|security)\.debian\.org|proxy\.golang\.org"
        rb"|[\w-]+\.debian\.net|archive\.ubuntu\.com)\b"
    ),
    "a way to another index": re.compile(rb"^\s*--?(?:index-url|extra-index-url|find-links|trusted-host|i|f)\b[ =]", re.MULTILINE),
    "a private key": re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "a provider's key": re.compile(rb"\bsk-(?:proj-|ant-)?[A-Za-z0-9]{32,}"),
}
THIS_FILE = "tests/project/test_tracked_text.py"
COMPRESSED = (".gz", ".xz", ".png", ".ico")
SAMPLES = {
    "a path of one machine": b"see /home/ada/notes",
    "a registry's host": b"https://files.python" + b"hosted.org/packages",
    "a way to another index": b"--index-url https://example.org/simple",
    "a private key": b"-----BEGIN RSA PRIVATE KEY-----",
    "a provider's key": b"sk-proj-" + b"a1" * 20,
}


@pytest.mark.parametrize("what", PATTERNS)
def test_no_file_records(what: str) -> None:
    pattern = PATTERNS[what]
    found = {}
    for path in project_files():
        if path != THIS_FILE and not path.endswith(COMPRESSED):
            hit = pattern.search((ROOT / path).read_bytes())
            if hit:
                found[path] = hit.group()
    assert not found


@pytest.mark.parametrize("what", PATTERNS)
def test_pattern_finds_what_it_is_for(what: str) -> None:
    assert PATTERNS[what].search(SAMPLES[what])


def test_no_file_is_left_to_do() -> None:
    marker = re.compile(rb"\b(?:TO" + rb"DO|FIX" + rb"ME|XX" + rb"X)\b")
    texts = [
        path
        for path in project_files()
        if path.startswith(("proxy/", "tests/", "docs/", "deploy/", "config/")) and not path.endswith(COMPRESSED)
    ]
    assert not [path for path in texts if marker.search((ROOT / path).read_bytes())]
