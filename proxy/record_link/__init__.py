"""The gate's end of the wire to the observer."""
