"""The pages: what a scientist sees. Rendered here, refreshed in place while something runs."""
