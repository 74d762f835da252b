"""From coefficients to a student: widths, removals, repairs, costs, weights."""
