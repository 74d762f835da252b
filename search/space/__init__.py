"""The search space: candidates, limits, plain students, thresholds, and what accuracies promise."""
