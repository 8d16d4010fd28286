"""The command `postern explain`: what would happen to a call, without a network."""
