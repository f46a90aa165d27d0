# All five layers, in order; each init.sls includes the layer below it.
base:
  '*':
    - base
    - driver
    - runtime
    - frameworks
    - validation
