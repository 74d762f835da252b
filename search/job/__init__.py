"""The job: what is asked, its file, its folder, its events and its lock."""
