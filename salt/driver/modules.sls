{% from 'driver/card.jinja' import needs_card %}

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

# the guest that proves an image has no GPU, and a box whose card is out is to be looked into: both boot
a module that finds no GPU fails no boot:
  file.managed:
    - name: /etc/systemd/system/systemd-modules-load.service.d/vault-cube.conf
    - makedirs: True
    - mode: '0644'
    - contents: |
        # written by salt/driver/modules.sls
        [Service]
        SuccessExitStatus=1
{% endif %}

{% if driver.persistence %}
the driver is kept loaded where there is a GPU:
  file.managed:
    - name: /etc/systemd/system/nvidia-persistenced.service.d/vault-cube.conf
    - makedirs: True
    - mode: '0644'
    - contents: |
        # written by salt/driver/modules.sls
        {%- if driver.provider == 'ubuntu' %}
        # Ubuntu's unit is started by udev only, stops when no unit needs it, and leaves persistence mode off
        [Unit]
        StopWhenUnneeded=no
        {%- endif %}

        [Service]
        {{ needs_card }}
        {%- if driver.provider == 'ubuntu' %}
        ExecStart=
        ExecStart=/usr/bin/nvidia-persistenced --user nvidia-persistenced --persistence-mode --verbose

        [Install]
        WantedBy=multi-user.target
        {%- endif %}
  cmd.run:
    - name: systemctl daemon-reload && systemctl try-restart nvidia-persistenced.service
    - onlyif: test -d /run/systemd/system
    - onchanges:
      - file: the driver is kept loaded where there is a GPU

driver stays loaded while nobody uses a GPU:
  unit.enabled:
    - name: nvidia-persistenced.service
    - require:
      - sls: driver.packages
      - cmd: the driver is kept loaded where there is a GPU
{% endif %}

{% if not (driver.blocked or driver.load or driver.persistence) %}
no kernel module is concerned:
  test.nop: []
{% endif %}
