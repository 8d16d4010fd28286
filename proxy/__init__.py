"""Postern: the small gate beside one app. It meters, routes and accounts for the LLM calls that pass."""

__version__ = "0.1.0"
