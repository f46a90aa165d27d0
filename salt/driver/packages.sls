include:
  - driver.repositories
  - driver.dkms

{% set driver = pillar.driver %}

{% if driver.packages %}
driver and user space are of one branch:
  packages.installed:
    - pkgs: {{ driver.packages | json }}
    - supplies: {{ pillar.base.supplies | json }}
    - lock: {{ opts.vault_cube.checkout }}/locks/{{ pillar.target.name }}/apt.lock
  {%- if driver.provider == 'debian' %}

# The logs contain the time of the build, so every image would differ. A live box keeps its logs
the image has no DKMS logs:
  cmd.run:
    - name: find /var/lib/dkms -name make.log -delete
    - unless: test -d /run/systemd/system
    - onchanges:
      - packages: driver and user space are of one branch
  {%- endif %}
{% else %}
this target has no driver:
  test.nop: []
{% endif %}

{% if driver.held %}
driver packages are held together with the kernel:
  held.packages:
    - packages: {{ driver.held | json }}
{% endif %}
