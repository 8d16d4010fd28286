"""The observer: the second process, and everything that happens after a call. The path of a call is not here."""
