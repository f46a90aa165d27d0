# Layer 1, one concern per file. README.md describes it.
include:
  - base.places
  - base.users
  - base.updates
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
  - base.network
  - base.cloud
  - base.first_boot
  - base.salt
  - base.units
