"""Backups of a deployed lab, its machines lost, and the way back (docs/guarantees.md)."""
