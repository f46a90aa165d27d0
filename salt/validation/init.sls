# Layer 5: the box carries its own states, tools and checks, and can prove itself.
include:
  - frameworks
  - validation.tools
  - validation.checkout
  - validation.manifest
  - validation.stress
