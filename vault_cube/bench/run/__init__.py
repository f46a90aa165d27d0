"""Run workloads as supervised processes and read sensors beside them."""
