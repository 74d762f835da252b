"""AppealNet's two-head students."""
