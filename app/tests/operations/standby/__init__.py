"""A database of two machines, and what happens when the one that leads is lost."""
