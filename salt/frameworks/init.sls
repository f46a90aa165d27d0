# Layer 4: one Python environment a framework.
include:
  - runtime
  - frameworks.environments
