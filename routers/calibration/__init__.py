"""Thresholds by what the user asks."""
