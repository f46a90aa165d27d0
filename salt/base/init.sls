# Layer 1. One concern a file; README.md says what it promises.
include:
  - base.users
  - base.packages
  - base.kernel
  - base.initramfs
  - base.ssh
  - base.firewall
  - base.fail2ban
  - base.docker
  - base.python
  - base.clock
  - base.logs
  - base.updates
  - base.network
  - base.cloud
  - base.first_boot
  - base.salt
  - base.units
