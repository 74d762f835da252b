"""Fitting of routers: tuning, cross-fitting."""
