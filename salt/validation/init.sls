# Layer 5: the box carries its own states, tools and checks, can prove itself, and tells how it is.
include:
  - frameworks
  - validation.tools
  - validation.exporters
  - validation.alerts
  - validation.prometheus
  - validation.dcgm
  - validation.beacon
  - validation.checkout
  - validation.manifest
  - validation.stress
