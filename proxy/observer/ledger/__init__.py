"""Recorded calls: the SQLite file, who writes it, who reads it."""
