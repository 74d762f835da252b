"""What ships: student, router, bundle."""
