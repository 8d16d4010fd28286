"""The client side of the gate: HTTP in, as the pipeline's plain values."""
