"""`postern key`: what it prints, what it does to the file, and when it leaves it alone."""

from __future__ import annotations

import os
import stat
from hashlib import sha256
from pathlib import Path

import pytest

from tests.config.support import load
from tests.functional.gate import postern

DIGESTS = ["ab" * 32, "cd" * 32, "ef" * 32]
TEXT = f"""\
# what this file is for
targets: {{openai: {{provider: openai, credential: "${{env:K:-k}}"}}}}
keys:
  # the shop's
  - {{name: web, sha256: {DIGESTS[0]}, tenant: shop, models: ["gpt-*", o3]}}

  - name: batch   # at night
    sha256: {DIGESTS[1]}
    routes: [default]
    expires: 2001-01-01
  - {{name: cli, sha256: {DIGESTS[2]}}}
# the end
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "postern.yaml"
    path.write_text(TEXT)
    return path


def test_a_key_is_shown_once_with_the_entry_that_makes_it_good() -> None:
    arguments = ["--tenant", "shop", "--user", "u", "--app", "a", "--models", "gpt-*, o3", "--routes", "default", "--expires", "2027-01-31"]
    made = postern("key", "new", "--name", "web", *arguments)
    lines = made.stdout.splitlines()
    key = lines[0]
    assert (made.returncode, made.stderr) == (0, "")
    assert key.startswith("pk-postern-")
    assert len(key) >= len("pk-postern-") + 32
    (entry,) = load(f"targets: {{a: {{provider: ollama, base_url: 'http://h'}}}}\nkeys:\n{lines[-1]}\n").config.keys
    assert entry.sha256 == sha256(key.encode()).hexdigest()
    assert (entry.name, entry.tenant, entry.user, entry.app) == ("web", "shop", "u", "a")
    assert (entry.models, entry.routes, entry.expires) == (["gpt-*", "o3"], ["default"], "2027-01-31")


def test_no_two_keys_are_the_same() -> None:
    assert len({postern("key", "new", "--name", "web").stdout.splitlines()[0] for _ in range(3)}) == 3


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["new"],
        ["new", "--name", ""],
        ["new", "--name", "a\nb"],
        ["new", "--name", "a", "--expires", "soon"],
        ["new", "--name", "a", "--expires", ""],
        ["new", "--name", "a", "--models", "gpt-*,"],
        ["revoke"],
        ["lose"],
    ],
)
def test_a_command_that_makes_no_sense_is_refused(arguments: list[str]) -> None:
    said = postern("key", *arguments)
    assert (said.returncode, said.stdout) == (2, "")


def test_keys_are_listed_without_what_opens_the_gate(file: Path) -> None:
    listed = postern("key", "list", "--config", str(file))
    assert [line.split() for line in listed.stdout.splitlines()] == [
        ["NAME", "KEPT", "TENANT", "USER", "APP", "MODELS", "ROUTES", "EXPIRES"],
        ["web", "yaml", "shop", "-", "-", "gpt-*,", "o3", "any", "never"],
        ["batch", "yaml", "-", "-", "-", "any", "default", "2001-01-01", "(expired)"],
        ["cli", "yaml", "-", "-", "-", "any", "any", "never"],
    ]
    assert not any(digest in listed.stdout for digest in DIGESTS)


def test_a_configuration_without_keys_says_that_none_is_needed(file: Path) -> None:
    file.write_text("targets: {a: {provider: simulated}}\n")
    assert postern("key", "list", "--config", str(file)).stdout == "No key is needed: there are no `keys`.\n"


@pytest.mark.parametrize(
    ("name", "gone"), [("web", [4]), ("batch", [6, 7, 8, 9]), ("cli", [10])], ids=["one line", "several lines", "the last"]
)
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_revoking_takes_the_entrys_lines_and_nothing_else(file: Path, name: str, gone: list[int], ending: str) -> None:
    file.write_bytes(TEXT.replace("\n", ending).encode())
    file.chmod(0o640)
    done = postern("key", "revoke", name, "--config", str(file))
    assert (done.returncode, done.stderr) == (0, "")
    kept = [line for number, line in enumerate(TEXT.split("\n")) if number not in gone]
    assert file.read_bytes() == ending.join(kept).encode()
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert [entry.name for entry in file.parent.iterdir()] == ["postern.yaml"]


def test_revoking_through_a_link_changes_what_it_leads_to(file: Path) -> None:
    link = file.with_name("link.yaml")
    link.symlink_to(file)
    assert postern("key", "revoke", "web", "--config", str(link)).returncode == 0
    assert link.is_symlink()
    assert "web" not in file.read_text()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody else")
def test_revoking_leaves_the_file_to_whom_it_belongs(file: Path) -> None:
    """Or a gate that runs as that user could no longer read it, and would go on with the key that was revoked."""
    os.chown(file, 12345, 54321)
    file.chmod(0o600)
    assert postern("key", "revoke", "web", "--config", str(file)).returncode == 0
    now = file.stat()
    assert (now.st_uid, now.st_gid, stat.S_IMODE(now.st_mode)) == (12345, 54321, 0o600)
    assert "web" not in file.read_text()


def not_revoked(file: Path, text: str, name: str) -> str:
    file.write_text(text)
    said = postern("key", "revoke", name, "--config", str(file))
    assert (said.returncode, said.stdout, file.read_text()) == (1, "", text)
    return said.stderr


def test_the_last_key_is_not_revoked_since_that_would_open_the_gate(file: Path) -> None:
    only = TEXT.partition("\n\n")[0] + "\n"
    assert "'web' is the only key: without it none would be needed" in not_revoked(file, only, "web")


def test_a_name_that_is_nearly_right_is_not_revoked(file: Path) -> None:
    assert "no key is named 'wev' (did you mean 'web'?)" in not_revoked(file, TEXT, "wev")


def test_an_entry_that_shares_its_line_stays(file: Path) -> None:
    flow = f"keys: [{{name: a, sha256: {DIGESTS[0]}}}, {{name: b, sha256: {DIGESTS[1]}}}]\n"
    assert "shares its lines with others" in not_revoked(file, TEXT.partition("keys:")[0] + flow, "a")


def test_an_entry_that_another_place_refers_to_stays(file: Path) -> None:
    first = f"keys:\n  - {{name: &n web, sha256: {DIGESTS[0]}}}\n"
    text = TEXT.partition("keys:")[0] + first + f"  - {{name: cli, sha256: {DIGESTS[1]}, tenant: *n}}\n"
    assert "would change more than this" in not_revoked(file, text, "web")


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only to root")
def test_a_folder_that_is_read_only_is_told(file: Path) -> None:
    file.parent.chmod(0o500)
    try:
        said = postern("key", "revoke", "web", "--config", str(file))
    finally:
        file.parent.chmod(0o700)
    assert (said.returncode, file.read_text()) == (1, TEXT)
    assert "can't be written" in said.stderr
