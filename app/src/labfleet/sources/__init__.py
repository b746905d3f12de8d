"""The process `labfleet data`: it looks through tables, away from the web application."""
