"""Rows that a router learns from: query by committee, random draws, labels."""
