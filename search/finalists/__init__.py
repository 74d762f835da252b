"""The final round: full training of the best candidates."""
