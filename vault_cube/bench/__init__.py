"""Benchmarks and burn-in: run the workloads, judge the measurements, store, compare and report the results.

`run/runner.py` drives a benchmark: take the lock → run the suites one after the other, each under a supervisor and a
time limit, while the sensors are sampled → statistics → verdicts against the pillar's thresholds → one JSON result →
a summary for the grain.
"""
