"""The process `labfleet fetcher`: it alone talks to where data comes from, and has no secret of the lab."""
