include:
  - driver.packages

{% set driver = pillar.driver %}

{% if driver.blocked %}
modules that would take the GPU are blocked:
  file.managed:
    - name: /etc/modprobe.d/vault-cube-driver.conf
    - mode: '0644'
    - contents:
      - '# written by salt/driver/modules.sls'
  {%- for module in driver.blocked %}
      - blacklist {{ module }}
      - install {{ module }} /bin/false
  {%- endfor %}

# the initial RAM disk has its own copy, and loads modules before the root is there
initial RAM disk knows the blocked modules:
  cmd.run:
    - name: update-initramfs -u -k all
    - onlyif: command -v update-initramfs
    - onchanges:
      - file: modules that would take the GPU are blocked
{% endif %}

{% if driver.load %}
driver modules are loaded at boot:
  file.managed:
    - name: /etc/modules-load.d/vault-cube-driver.conf
    - mode: '0644'
    - contents: {{ (['# written by salt/driver/modules.sls'] + driver.load) | json }}
    - require:
      - sls: driver.packages
{% endif %}

{% if driver.persistence %}
driver stays loaded while nobody uses a GPU:
  unit.enabled:
    - name: nvidia-persistenced.service
    - require:
      - sls: driver.packages
{% endif %}

{% if not (driver.blocked or driver.load or driver.persistence) %}
no kernel module is concerned:
  test.nop: []
{% endif %}
