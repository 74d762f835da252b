"""The ledger: every evaluated candidate, on disk."""
