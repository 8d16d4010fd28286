"""Calls as spans and log records, in OTLP bytes. Nothing here sends them, nor knows a socket."""
