"""What the gate tells the observer when it starts it: one frame, the first on their socketpair.

Here: the settings struct, how it is made from the configuration, its framing. Not here: credentials of targets, sockets.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from proxy.call import Price
from proxy.config.schema import Config, KeepConfig, OtlpConfig, TargetConfig
from proxy.records import framed


class PricedTarget(msgspec.Struct, frozen=True):
    """What pricing needs to know of a target, and no more."""

    provider: str
    price: Price | None = None


class ObserverSettings(msgspec.Struct, frozen=True):
    """How the observer works: where it keeps the ledger, where it exports to, what a token costs."""

    state_dir: str
    service_version: str
    otlp_endpoint: str | None = None
    otlp_protocol: Literal["http/protobuf", "grpc"] = "http/protobuf"
    otlp_headers: dict[str, str] = {}
    genai_semconv: Literal["v1_41", "latest", "both"] = "v1_41"
    openinference: bool = False
    cost_attribute: str = "gen_ai.usage.cost"
    keep: KeepConfig = KeepConfig()
    spool_bytes: int = 256 << 20
    call_log: Literal["none", "stdout", "otlp"] = "none"
    targets: dict[str, PricedTarget] = {}
    overrides: dict[str, Price] = {}

    def __repr__(self) -> str:
        return f"ObserverSettings({self.state_dir!r}, {self.otlp_endpoint!r})"  # never the headers


def observer_settings(config: Config, service_version: str) -> ObserverSettings:
    """The part of a configuration that the observer works by."""
    otlp = config.telemetry.otlp or OtlpConfig()
    return ObserverSettings(
        state_dir=config.state_dir,
        service_version=service_version,
        otlp_endpoint=otlp.endpoint,
        otlp_protocol=otlp.protocol,
        otlp_headers={name: value.reveal() for name, value in otlp.headers.items()},
        genai_semconv=config.telemetry.genai_semconv,
        openinference=config.telemetry.openinference,
        cost_attribute=config.telemetry.cost_attribute,
        keep=config.telemetry.keep,
        spool_bytes=int(config.telemetry.spool.max_mib * (1 << 20)),
        call_log=config.telemetry.call_log,
        targets={name: _priced(target) for name, target in config.targets.items()},
        overrides=config.prices.overrides,
    )


def _priced(target: TargetConfig) -> PricedTarget:
    return PricedTarget(target.provider, target.price)


def encode_settings(settings: ObserverSettings) -> bytes:
    """The settings as one frame: 4 bytes of big-endian length, then msgpack."""
    return framed(msgspec.msgpack.encode(settings))


def decode_settings(payload: bytes) -> ObserverSettings:
    """The settings in a frame's payload. Raises msgspec.DecodeError."""
    return msgspec.msgpack.decode(payload, type=ObserverSettings)
