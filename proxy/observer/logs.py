"""What the observer says on stderr: its own warnings, and of the OpenTelemetry SDK one error a minute and logger.

Here: setting that up. Not here: messages. A dead collector would otherwise fill the log of the app beside it.
"""

from __future__ import annotations

import logging

FORMAT = "observer: %(levelname)s: %(message)s"
SDK_LOGGER = "opentelemetry"
SDK_PAUSE_S = 60.0


class OncePerPause(logging.Filter):
    """Lets one record of each of the SDK's loggers through per pause, and everything else."""

    def __init__(self) -> None:
        super().__init__()
        self._last_s: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is said."""
        if not record.name.startswith(SDK_LOGGER):
            return True
        last_s = self._last_s.get(record.name)
        if last_s is not None and record.created - last_s < SDK_PAUSE_S:
            return False
        self._last_s[record.name] = record.created
        return True


def set_up_logging() -> None:
    """Send warnings to stderr; the SDK's retries, which it calls warnings, stay unsaid."""
    handler = logging.StreamHandler()
    handler.addFilter(OncePerPause())
    logging.basicConfig(format=FORMAT, level=logging.WARNING, handlers=[handler])
    logging.getLogger(f"{SDK_LOGGER}.exporter").setLevel(logging.ERROR)
