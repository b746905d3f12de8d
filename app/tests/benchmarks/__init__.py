"""Figures of speed, each as a ratio of two things that were measured in one run on one deployed lab."""
