"""The command `postern key`: make a virtual key, list those of a configuration and those in Redis, revoke one.

Here: what the subcommands do and say. Not here: arguments (cli.py), the entries' text (config/key_entries.py, stores/shared_keys.py), what
a key allows (policy/keys.py). A key itself is shown once, by `new`, and kept nowhere.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

import msgspec

from proxy.app import POLL_S
from proxy.call import expiry_unix_s
from proxy.config.key_entries import entry_lines, entry_text, without_lines
from proxy.config.load import LoadedConfig, load_config, read_text_file
from proxy.config.problems import ConfigError, did_you_mean
from proxy.config.schema import Config, KeyConfig
from proxy.explain.table import printable, table
from proxy.stores.opening import link_for
from proxy.stores.shared_keys import REFRESH_S, KeyHash, read_entry
from proxy.wire.dialects.table import dialect

PREFIX = "pk-postern-"
RANDOM_BYTES = 32
HEADINGS = ("NAME", "KEPT", "TENANT", "USER", "APP", "MODELS", "ROUTES", "EXPIRES")
YAML, REDIS, HIDDEN = "yaml", "redis", "redis, not in force"
"""Where a key is kept; of two with one name or digest the YAML's counts."""

Done = TypeVar("Done")
Write = Callable[[str], object]
Said = Mapping[str, str | Sequence[str] | None]
"""What a key's entry is to say, by its names."""


class NotDone(Exception):
    """Nothing was made, or revoked, or not all was shown; the text says why, and what to do."""


def new_key() -> str:
    """A key nobody can guess."""
    return PREFIX + secrets.token_urlsafe(RANDOM_BYTES)


def show_new(key: str, said: Said, write: Write) -> None:
    """Show a key, this once, and the entry that makes it good."""
    values = {"name": said["name"], "sha256": sha256(key.encode()).hexdigest(), **said}
    write(f"{key}\n\nThat is the key, shown this once: what the configuration holds can't be turned back into it. ")
    write(f"It is good as soon as this stands under `keys:`\n\n  {entry_text(values)}\n")


def keep_new(config: Config, key: str, said: Said, write: Write) -> None:
    """Keep a key in Redis, and show it, this once. Raises NotDone, also where its name is taken."""
    given = {name: value for name, value in said.items() if value}
    entry = msgspec.convert({"sha256": sha256(key.encode()).hexdigest(), **given}, KeyConfig)
    if any(entry.name == other.name for other in config.keys):
        raise NotDone(f"a key is named '{entry.name}' under `keys`: take another name")
    if not _in_redis(config, lambda kept: kept.add(entry)):
        raise NotDone(f"a key in Redis is named '{entry.name}': revoke it first, or take another name")
    write(f"{key}\n\nThat is the key, shown this once: what Redis holds can't be turned back into it. ")
    write(f"It is good in {REFRESH_S:g} s, at every Postern that shares this Redis.\n")


def list_keys(config: Config, only_redis: bool, now_unix_s: float, write: Write) -> None:
    """List the keys and where each is kept, without anything that opens the gate. Raises NotDone where Redis can't be asked."""
    if not (config.needs_keys or only_redis):
        write("No key is needed: there are no `keys`.\n")
        return
    rows = [] if only_redis else [_row(key, YAML, now_unix_s) for key in config.keys]
    unread: list[str] = []
    try:
        if config.store.keys or only_redis:
            entries = {name: read_entry(name, text) for name, text in sorted(_in_redis(config, KeyHash.entries).items())}
            rows += [_row(entry, _where(entry, config), now_unix_s) for entry in entries.values() if entry is not None]
            unread = [name for name, entry in entries.items() if entry is None]
    finally:  # without Redis, those of the YAML are known all the same
        if rows:
            write("".join(f"{printable(line)}\n" for line in table([HEADINGS, *rows])))
    write("".join(f"What Redis has as '{printable(name)}' makes no sense, and opens nothing.\n" for name in unread))
    if not rows:
        write("There is no key in Redis. `postern key new --redis` makes one.\n")


def _where(entry: KeyConfig, config: Config) -> str:
    is_hidden = any(entry.name == other.name or entry.sha256.lower() == other.sha256.lower() for other in config.keys)
    return HIDDEN if is_hidden else REDIS


def _row(key: KeyConfig, where: str, now_unix_s: float) -> tuple[str, ...]:
    return (key.name, where, key.tenant or "-", key.user or "-", key.app or "-", *_for(key), _expiry(key, now_unix_s))


def _for(key: KeyConfig) -> tuple[str, str]:
    return ", ".join(key.models) or "any", ", ".join(key.routes) or "any"


def _expiry(key: KeyConfig, now_unix_s: float) -> str:
    if key.expires is None:
        return "never"
    return f"{key.expires} (expired)" if now_unix_s >= expiry_unix_s(key.expires) else key.expires


def revoke_in_redis(config: Config, name: str) -> str:
    """Take a key out of Redis; returns what was done. Raises NotDone."""

    async def remove(kept: KeyHash) -> list[str] | None:
        return None if await kept.remove(name) else sorted(await kept.entries())

    known = _in_redis(config, remove)
    if known is not None:
        raise NotDone(f"no key in Redis is named '{name}'{did_you_mean(name, known)}")
    rest = " The one of this name under `keys` stays." if any(name == key.name for key in config.keys) else ""
    return f"Key '{name}' is revoked: Redis no longer has it. Every running Postern that shares it sees that in {REFRESH_S:g} s.{rest}"


def _in_redis(config: Config, act: Callable[[KeyHash], Awaitable[Done]]) -> Done:
    """What came of an act on the keys in Redis. Raises NotDone, in words that tell nothing of its password."""
    if not config.store.keys:
        raise NotDone("keys in Redis are not read: that takes `store: {kind: redis, url: ..., keys: true}`")

    async def run() -> Done:
        kept = KeyHash(link_for(config.store), config.store.prefix)
        try:
            return await act(kept)
        finally:
            await kept.close()

    try:
        return asyncio.run(run())
    except OSError as error:
        raise NotDone(f"Redis (store.url) didn't answer, so look at what is there before you try again: {error}") from error


def revoke(path: str, loaded: LoadedConfig, environment: Mapping[str, str], name: str) -> str:
    """Take a key's entry out of the file, comments and all else left as they are; returns what was done. Raises NotDone, OSError."""
    keys = loaded.config.keys
    index = next((index for index, key in enumerate(keys) if key.name == name), None)
    if index is None:
        where = "; one in Redis is revoked with --redis" if loaded.config.store.keys else ""
        raise NotDone(f"no key is named '{name}'{did_you_mean(name, [key.name for key in keys])}{where}")
    if len(keys) == 1 and loaded.config.store.keys:
        raise NotDone(f"'{name}' is the only key under `keys`: take the whole section out yourself")
    if len(keys) == 1:
        raise NotDone(
            f"'{name}' is the only key: without it none would be needed. Make another first (postern key new), or give this one an "
            "`expires` that is past."
        )
    text = read_text_file(path)
    lines = entry_lines(text, index)
    if lines is None:
        raise NotDone(f"the entry of '{name}' shares its lines with others, so {path} was left as it is: remove it yourself")
    changed = without_lines(text, *lines)
    wanted = msgspec.structs.replace(loaded.config, keys=[key for key in keys if key.name != name])
    if not _says(path, changed, environment, wanted):
        raise NotDone(f"removing lines {lines[0]} to {lines[1]} would change more than this, so {path} was left as it is")
    _replace(Path(path).resolve(), changed)
    return f"Key '{name}' is revoked: {path} no longer has its lines {lines[0]} to {lines[1]}. A running Postern sees it in {POLL_S:g} s."


def _says(path: str, text: str, environment: Mapping[str, str], wanted: object) -> bool:
    """Whether the text is a configuration that says what is wanted."""

    def read(name: str) -> str:
        return text if name == path else read_text_file(name)

    try:
        return load_config(path, environment, read, lambda provider: dialect(provider).default_base_url).config == wanted
    except ConfigError:
        return False


def _replace(path: Path, text: str) -> None:
    """Write a file in one step: whoever reads it meanwhile sees the old one or the new one, whole. Raises OSError, also where its owner
    can't be kept: the gate may be that owner, and would read nothing any more.
    """
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text.encode())
        was, made = path.stat(), Path(beside).stat()
        if (was.st_uid, was.st_gid) != (made.st_uid, made.st_gid):
            os.chown(beside, was.st_uid, was.st_gid)
        shutil.copymode(path, beside)
        Path(beside).replace(path)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise
