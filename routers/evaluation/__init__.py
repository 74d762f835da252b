"""Figures of deferral and their intervals."""
