"""GPU readings as tables and as a live monitor."""
