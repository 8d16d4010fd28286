"""Reads the price file that is shipped with the package.

Here: the one read. Not here: what the file means (proxy/policy/price_match.py), how it is made (export_prices.py).
"""

from __future__ import annotations

import gzip
from importlib.resources import files

PRICE_FILE = "prices.json.gz"


def read_prices() -> bytes:
    """The shipped prices as a JSON document, for `ShippedPrices`. Raises FileNotFoundError from a package built without its data."""
    return gzip.decompress(files("proxy.data").joinpath(PRICE_FILE).read_bytes())
