"""The network as data: operators, their shapes, checks."""
