"""Training of students by their teacher."""
