"""Jobs: states, transitions, submission, attempts and their tokens."""
