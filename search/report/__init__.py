"""What is told of a finished run."""
