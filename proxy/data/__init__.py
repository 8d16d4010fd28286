"""Package data: shipped prices and tokenizer ranks, and what reads or makes them."""
