# Layer 5: the box proves itself.
include:
  - frameworks
  - validation.tools
  - validation.manifest
