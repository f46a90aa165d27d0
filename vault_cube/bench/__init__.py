"""Proof of performance: run the workloads, measure, judge, keep, compare, burn, report.

`run/runner.py` is the way through: lock → suites one after the other, each under a leash and a time limit, sensors
sampled meanwhile → statistics → verdicts against the pillar → one JSON result → a summary for the grain.
"""
