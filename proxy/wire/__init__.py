"""What bytes mean: requests, replies, streams, headers, frames. Pure: no I/O, clocks, random, logging, environment, async."""
