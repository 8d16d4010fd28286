"""The path of a call: accept, route, attempt, relay, settle. No foreign library's types."""
