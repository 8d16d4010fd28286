"""Pure decisions: facts and a time in, a frozen decision out."""
