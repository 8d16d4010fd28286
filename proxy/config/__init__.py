"""Configuration: YAML and environment in, one frozen Config out."""
