"""Data sets as people have them, and their parts."""
