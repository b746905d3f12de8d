"""Faults done to a deployed lab, and what must hold all the same (docs/guarantees.md)."""
