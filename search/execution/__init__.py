"""Training of candidates on Ray workers."""
