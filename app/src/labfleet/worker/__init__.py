"""The worker tier: takes attempts by their keys, runs each in a sandbox in a unit of its own."""
