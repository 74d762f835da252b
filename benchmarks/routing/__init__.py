"""Which router to trust: pairs of student and teacher that are real, and what routers do there."""
