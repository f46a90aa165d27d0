{% from 'driver/card.jinja' import needs_card %}
{% set power = pillar.driver.power %}

{% if power.limit_w %}
GPU power is capped:
  file.managed:
    - name: /etc/systemd/system/vault-cube-gpu-power.service
    - user: root
    - group: root
    - mode: '0644'
    - contents: |
        # written by salt/driver/power.sls
        [Unit]
        Description=Power cap of {{ power.limit_w }} W for each GPU
        After=nvidia-persistenced.service
        Wants=nvidia-persistenced.service
        # restart together: a restart of nvidia-persistenced may unload the driver, which resets the power cap
        PartOf=nvidia-persistenced.service

        [Service]
        {{ needs_card }}
        Type=oneshot
        RemainAfterExit=yes
        ExecStart=/usr/bin/nvidia-smi --power-limit={{ power.limit_w }}

        [Install]
        WantedBy=multi-user.target

power cap is set at boot:
  unit.enabled:
    - name: vault-cube-gpu-power.service
    - require:
      - file: GPU power is capped
{% endif %}

{% if power.pcie_aspm == 'performance' %}
# If two files have a line for the same path, the first one applies
PCIe power management is off:
  file.managed:
    - name: /etc/tmpfiles.d/00-vault-cube-pcie.conf
    - user: root
    - group: root
    - mode: '0644'
    - contents:
      - '# written by salt/driver/power.sls'
      - w /sys/module/pcie_aspm/parameters/policy - - - - performance
  cmd.run:
    - name: systemd-tmpfiles --create /etc/tmpfiles.d/00-vault-cube-pcie.conf
    - onlyif: test -d /run/systemd/system
    - onchanges:
      - file: PCIe power management is off
{% endif %}

{% if not power.limit_w and power.pcie_aspm == 'default' %}
this target keeps the hardware's power settings:
  test.nop: []
{% endif %}
