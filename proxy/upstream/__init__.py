"""The provider side of the gate: attempts go out here."""
