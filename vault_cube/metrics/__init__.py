"""Metrics of the box for Prometheus: timers write files to the node exporter's textfile folder.

exposition  Prometheus' text format and its files
disks       SMART data from smartctl
gpus        readings of the GPUs from NVML
__main__    the program that the timers run
"""
