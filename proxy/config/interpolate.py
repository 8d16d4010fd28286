"""`${env:NAME}`, `${env:NAME:-default}` and `${file:/path}` inside strings.

Here: expanding one string. Not here: the environment and the files themselves, which are arguments; what a value means.
Messages never repeat what stands between the braces beyond a variable's name or a file's path: it may be a secret in the wrong place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import msgspec

FORMS = "${env:NAME}, ${env:NAME:-default} and ${file:/path}"
MAX_FILE_CHARACTERS = 64 * 1024

_EXPRESSION = re.compile(r"\$(?P<escaped>\$\{)|\$\{(?P<inside>[^}]*)(?P<end>\}?)")
_VARIABLE = re.compile(r"env:(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>.*))?", re.DOTALL)
_FILE = re.compile(r"file:(?P<path>/.*)")


class Expanded(msgspec.Struct, frozen=True):
    """A string after interpolation."""

    text: str
    secret: bool  # a part of it came from outside the file
    messages: list[str]  # what is wrong with it


class _Refused(Exception):
    """An expression that can't be expanded, and why."""


class Interpolation:
    """Expands the strings of one configuration, reading each file once."""

    def __init__(self, environment: Mapping[str, str], read_file: Callable[[str], str]) -> None:
        self._environment = environment
        self._read_file = read_file
        self.files: dict[str, str] = {}

    def expand(self, text: str) -> Expanded:
        """The text with its expressions replaced; `$${` stands for a literal `${`."""
        if "${" not in text:
            return Expanded(text, False, [])
        messages: list[str] = []
        secret = False

        def replace(match: re.Match[str]) -> str:
            nonlocal secret
            if match["escaped"]:
                return match["escaped"]
            secret = True
            try:
                return self._value(match)
            except _Refused as refused:
                messages.append(str(refused))
                return ""

        return Expanded(_EXPRESSION.sub(replace, text), secret, messages)

    def _value(self, match: re.Match[str]) -> str:
        inside: str = match["inside"]
        if not match["end"]:
            raise _Refused("`${` without a closing `}` (a literal `${` is written `$${`)")
        if "${" in inside:
            raise _Refused("`${` inside `${…}`: expressions can't be nested")
        if variable := _VARIABLE.fullmatch(inside):
            return self._variable(variable["name"], variable["default"])
        if file := _FILE.fullmatch(inside):
            return self._file(file["path"])
        raise _Refused(f"an expression that is not known: there are {FORMS} (a literal `${{` is written `$${{`)")

    def _variable(self, name: str, default: str | None) -> str:
        value = self._environment.get(name)
        if default is not None:
            value = value or default  # as in a shell: `:-` also replaces an empty value
        if value is None:
            raise _Refused(f"environment variable {name} is not set (a default is written ${{env:{name}:-default}})")
        return _encodable(value, f"environment variable {name}")

    def _file(self, path: str) -> str:
        if path not in self.files:
            self.files[path] = self._read(path)
        return self.files[path]

    def _read(self, path: str) -> str:
        try:
            text = self._read_file(path)
        except (OSError, ValueError) as error:
            raise _Refused(f"file {path} can't be read: {read_message(error)}") from None
        if len(text) > MAX_FILE_CHARACTERS:
            raise _Refused(f"file {path} is longer than {MAX_FILE_CHARACTERS // 1024} KiB: too long for a value")
        return _encodable(text.rstrip("\r\n"), f"file {path}")


def _encodable(text: str, source: str) -> str:
    """The text, if UTF-8 can hold it: bytes that are not UTF-8 arrive from the system as lone surrogates."""
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise _Refused(f"{source} is not valid UTF-8")
    return text


def read_message(error: OSError | ValueError) -> str:
    """Why a file could not be read, without anything of what it holds."""
    if isinstance(error, IsADirectoryError):
        return "it is a directory"
    if isinstance(error, UnicodeDecodeError):
        return "it is not valid UTF-8"
    if isinstance(error, OSError):
        return error.strerror or "the system refused"
    return "its name or its content is not valid"
