"""NVIDIA's management library in a child process that can be killed."""
