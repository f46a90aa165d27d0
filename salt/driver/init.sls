# Layer 2: the accelerator's kernel driver and user space libraries, from one source.
include:
  - base
  - driver.repositories
  - driver.dkms
  - driver.packages
  - driver.modules
  - driver.power
