# All five layers, in order. Each init.sls includes the layer below.
base:
  '*':
    - base
    - driver
    - runtime
    - frameworks
    - validation
