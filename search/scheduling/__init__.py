"""The search loop: which candidate is trained next, and for how long."""
