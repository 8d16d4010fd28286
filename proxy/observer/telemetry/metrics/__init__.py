"""Calls as metrics, and how these leave: OTLP and a page for Prometheus."""
