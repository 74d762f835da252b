"""A job made ready: teacher, data, parts, answers of the teacher, checks."""
