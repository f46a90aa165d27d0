# Layer 3: containers get the GPUs.
include:
  - driver
  - runtime.packages
