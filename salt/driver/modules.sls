{% set driver = pillar.driver %}

kernel modules that would take the GPU are blocked:
  file.managed:
    - name: /etc/modprobe.d/vault-cube-driver.conf
    - mode: '0644'
    - contents:
      - '# written by salt/driver/modules.sls'
{%- for module in driver.blocked %}
      - blacklist {{ module }}
      - options {{ module }} modeset=0
{%- endfor %}
