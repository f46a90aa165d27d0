# Turns a Debian or Ubuntu machine into the master of a fleet: `make master`, docs/fleet.md. No box uses these states.
include:
  - fleet.people
  - fleet.packages
  - fleet.certificates
  - fleet.master
  - fleet.api
