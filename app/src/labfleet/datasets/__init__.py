"""Datasets: the content-addressed store, the logs beside it, and who owns which dataset."""
