"""The networks of the zoo, one family per module, under their usual names and state-dict keys."""
