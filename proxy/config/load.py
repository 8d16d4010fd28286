"""One file in, one checked configuration out, or every problem of it at once.

Here: the order of the steps (read, compose, convert, check), and the targets that come of it. Not here: the steps.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path

import msgspec

from proxy.call import Secret, Target
from proxy.config.check import BUILT_IN, Checker, DefaultBaseUrl
from proxy.config.convert import Conversion
from proxy.config.interpolate import Interpolation, read_message
from proxy.config.nodes import compose, place_in
from proxy.config.problems import Place, Problems
from proxy.config.schema import PASSTHROUGH, Config, TargetConfig

MAX_BYTES = 1 << 20
TOO_LARGE = "it is larger than 1 MiB"
BYTE_ORDER_MARK = "\ufeff"


class LoadedConfig(msgspec.Struct, frozen=True):
    """A configuration that may be used."""

    config: Config
    targets: dict[str, Target]
    files: list[str]  # read by ${file:…}: when one of them changes, so may the configuration
    digest: str  # SHA-256 in hex of what the configuration says, secrets included: same digest, nothing to swap


def load_config(
    path: str, environment: Mapping[str, str], read_file: Callable[[str], str], default_base_url: DefaultBaseUrl
) -> LoadedConfig:
    """The configuration in a file.

    `read_file` returns a file's text as strict UTF-8, raising OSError or UnicodeDecodeError; it serves `path` and `${file:…}` alike.
    `default_base_url` tells a provider's own address. Raises ConfigError with every problem there is.
    """
    problems = Problems(path)
    root = compose(_read(path, read_file, problems), problems)
    interpolation = Interpolation(environment, read_file)
    conversion = Conversion(problems, interpolation)
    config = conversion.config(root)
    Checker(config, problems, conversion.found, default_base_url).check()
    problems.raise_any()
    targets = {name: _target(name, config, default_base_url) for name in config.targets}
    said = msgspec.msgpack.encode((config, targets), enc_hook=Secret.reveal)
    return LoadedConfig(config, targets, list(interpolation.files), sha256(said).hexdigest())


def read_text_file(path: str) -> str:
    """A file's text, as `load_config` wants it. Raises OSError, also for a file over 1 MiB, and UnicodeDecodeError."""
    with Path(path).open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise OSError(errno.EFBIG, TOO_LARGE)
    return data.decode("utf-8")


def _read(path: str, read_file: Callable[[str], str], problems: Problems) -> str:
    try:
        text = read_file(path)
    except UnicodeDecodeError as error:
        readable = error.object[: error.start].decode("utf-8")
        raise problems.stop(place_in(readable, len(readable)), "", "not valid UTF-8 from here on: save the file as UTF-8") from None
    except (OSError, ValueError) as error:
        raise problems.stop(None, "", f"can't be read: {read_message(error)}") from None
    if len(text) > MAX_BYTES:
        raise problems.stop(None, "", f"can't be read: {TOO_LARGE}")
    if text.startswith(BYTE_ORDER_MARK):
        raise problems.stop(Place(1, 1), "", "starts with a byte order mark: save the file as UTF-8 without one")
    return text


def _target(name: str, config: Config, default_base_url: DefaultBaseUrl) -> Target:
    declared = config.targets[name]
    credentials = tuple(declared.credential or ())
    is_passthrough = credentials == (Secret(PASSTHROUGH),)
    goes_on = is_passthrough if credentials else _is_only_real_target(declared, config)
    passthrough = goes_on and not config.needs_keys  # a virtual key is for this gate alone
    return Target(
        name=name,
        provider=declared.provider,
        base_url=_base_url(declared, default_base_url),
        credentials=() if is_passthrough else credentials,
        passthrough=passthrough,
        tier=declared.tier,
        timeouts=declared.timeouts,
        price=declared.price,
        trusted_context=name in config.telemetry.trust_upstream_context,
    )


def _base_url(declared: TargetConfig, default_base_url: DefaultBaseUrl) -> str:
    if declared.base_url is None and declared.provider == BUILT_IN:
        return ""
    return (declared.base_url or default_base_url(declared.provider) or "").rstrip("/")


def _is_only_real_target(declared: TargetConfig, config: Config) -> bool:
    """Whether no other target could be sent a client's credential by mistake."""
    real = [target for target in config.targets.values() if target.provider != BUILT_IN]
    return len(real) == 1 and real[0] is declared
