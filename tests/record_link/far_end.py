"""The observer's end of the socketpair, played by a test."""

from __future__ import annotations

import socket

from proxy.records import CallRecord, FrameReader, GateReport, ObserverReport, decode_frame, encode_report

SETTINGS_PAYLOAD = b"the settings"
SETTINGS = len(SETTINGS_PAYLOAD).to_bytes(4, "big") + SETTINGS_PAYLOAD


class FarEnd:
    """Reads what the gate sent, and answers."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self.socket = end
        self.at_end = False  # the gate said that no more will come
        self._frames = FrameReader()
        self._payloads: list[bytes] = []

    def read(self, limit: int = 1 << 30) -> list[str]:
        """Call ids of all records that came until now, oldest first; takes at most `limit` more bytes."""
        while limit > 0 and not self.at_end:
            try:
                data = self.socket.recv(min(limit, 1 << 16))
            except BlockingIOError:
                break
            self.at_end = not data
            limit -= len(data)
            self._payloads += self._frames.feed(data)
        return [record.call_id for record in self.records()]

    def records(self) -> list[CallRecord]:
        """The records that came."""
        return [frame for frame in self._frames_after_settings() if isinstance(frame, CallRecord)]

    def reports(self) -> list[GateReport]:
        """The gate's reports that came until now."""
        self.read()
        return [frame for frame in self._frames_after_settings() if isinstance(frame, GateReport)]

    def _frames_after_settings(self) -> list[CallRecord | GateReport]:
        assert self._payloads[:1] in ([], [SETTINGS_PAYLOAD]), "the settings always come first"
        return [decode_frame(payload) for payload in self._payloads[1:]]

    def acknowledge(self, count: int, **counters: int) -> None:
        """Say that so many records of this connection are safe."""
        self.socket.send(encode_report(ObserverReport(count, counters)))

    def die(self) -> None:
        """Close, with whatever wasn't read."""
        self.socket.close()
