"""The compression problem as a Gymnasium environment."""
