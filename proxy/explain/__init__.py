"""The commands `postern explain` and `postern replay`: what would happen to a call, or to those there were, without a network."""
