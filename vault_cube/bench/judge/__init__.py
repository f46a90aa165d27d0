"""What a measurement means: statistics, thresholds, comparison of two results."""
