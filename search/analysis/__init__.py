"""Readers of finished runs: re-ranking, tuning, tables."""
