# Layer 3: containers can use the GPUs.
include:
  - driver
  - runtime.repositories
  - runtime.packages
  - runtime.docker
{%- if pillar.runtime.provider == 'vault-cube' %}
  - runtime.cdi
{%- endif %}
