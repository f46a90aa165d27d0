"""What is read about GPUs: facts, sensor readings, events, kernel log, topology."""
