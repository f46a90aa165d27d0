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
    - onlyif: find /var/lib/dkms -name make.log | grep -q .
    - unless: test -d /run/systemd/system
  {%- endif %}
{% else %}
this target has no driver:
  test.nop: []
{% endif %}

{% if driver.held %}
# Not pkg.held: dpkg lists a library with its architecture (libcuda1:amd64), so pkg.held would set the hold again in every run
driver packages are held together with the kernel:
  cmd.run:
    - name: apt-mark hold {{ driver.held | join(' ') }}
    - unless: test "$(apt-mark showhold {{ driver.held | join(' ') }} | wc -l)" = {{ driver.held | length }}
{% endif %}
