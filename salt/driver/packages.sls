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
# not pkg.held: dpkg names a library with its architecture (libcuda1:amd64), and pkg.held then holds it anew each time
kernel and driver move together or not at all:
  cmd.run:
    - name: apt-mark hold {{ driver.held | join(' ') }}
    - unless: test "$(apt-mark showhold {{ driver.held | join(' ') }} | wc -l)" = {{ driver.held | length }}
    - require:
      - pkg: driver and user space are of one branch
{% endif %}
