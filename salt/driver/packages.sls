include:
  - driver.repositories
  - driver.dkms

{% set driver = pillar.driver %}

{% if driver.packages %}
driver and user space are of one branch:
  pkg.installed:
    - pkgs: {{ driver.packages | json }}
    - install_recommends: False
    - require:
      - sls: driver.repositories
      - sls: driver.dkms
{% else %}
no driver is asked for:
  test.nop: []
{% endif %}

{% if driver.held %}
kernel and driver move together or not at all:
  pkg.held:
    - pkgs: {{ driver.held | json }}
    - require:
      - pkg: driver and user space are of one branch
{% endif %}
