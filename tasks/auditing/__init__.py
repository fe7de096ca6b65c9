"""The audit of a judge: what it is shown, what it said, what that says about it, and its passport."""
