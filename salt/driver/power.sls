{% from 'driver/card.jinja' import needs_card %}
{% set power = pillar.driver.power %}

{% if power.limit_w %}
GPUs draw no more than the supply gives:
  file.managed:
    - name: /etc/systemd/system/vault-cube-gpu-power.service
    - mode: '0644'
    - contents: |
        # written by salt/driver/power.sls
        [Unit]
        Description=Power cap of {{ power.limit_w }} W for each GPU
        After=nvidia-persistenced.service
        Wants=nvidia-persistenced.service
        # a restart of it may unload the driver, and the cap with it
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
      - file: GPUs draw no more than the supply gives
{% endif %}

{% if power.pcie_aspm == 'performance' %}
# of two lines for a path the first counts
PCIe links do not sleep:
  file.managed:
    - name: /etc/tmpfiles.d/00-vault-cube-pcie.conf
    - mode: '0644'
    - contents:
      - '# written by salt/driver/power.sls'
      - w /sys/module/pcie_aspm/parameters/policy - - - - performance
  cmd.run:
    - name: systemd-tmpfiles --create /etc/tmpfiles.d/00-vault-cube-pcie.conf
    - onlyif: test -d /run/systemd/system
    - onchanges:
      - file: PCIe links do not sleep
{% endif %}

{% if not power.limit_w and power.pcie_aspm == 'default' %}
power settings are the hardware's own:
  test.nop: []
{% endif %}
