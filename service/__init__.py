"""What people and programs ask understudy by."""
