"""Precision, layout and fused steps that make training faster."""
