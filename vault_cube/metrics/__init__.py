"""What a Prometheus reads of the box beside the node exporter's own: files in its textfile folder, by timers.

exposition  the text format and its files
disks       SMART data by smartctl
__main__    what the timers run; the GPUs' part is `vault_cube.metrics.gpus`
"""
