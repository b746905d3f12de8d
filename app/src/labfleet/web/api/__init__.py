"""The API under `/api/v1`; docs/architecture.md is its contract."""
