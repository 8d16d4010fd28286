"""How spans and log records reach a collector, or wait on disk until it is back. What they say isn't known here."""
