"""What differs between providers that speak the same API."""
