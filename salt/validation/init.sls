# Layer 5: the box's own copy of the states, diagnostic tools, checks and monitoring.
include:
  - frameworks
  - validation.tools
  - validation.exporters
  - validation.alerts
  - validation.prometheus
  - validation.dcgm
  - validation.beacon
  - validation.checkout
  - validation.drift
  - validation.manifest
  - validation.stress
  - validation.fleet
