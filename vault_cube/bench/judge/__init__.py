"""Evaluation of measurements: statistics, thresholds, comparison of two results."""
