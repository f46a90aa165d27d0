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
  {%- if driver.provider == 'debian' %}

# it says when each module was built, so that no two images were alike; a box keeps its own
the image has no log of DKMS:
  cmd.run:
    - name: find /var/lib/dkms -name make.log -delete
    - onlyif: find /var/lib/dkms -name make.log | grep -q .
    - unless: test -d /run/systemd/system
    - require:
      - pkg: driver and user space are of one branch
  {%- endif %}
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
