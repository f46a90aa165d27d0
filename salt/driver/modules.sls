{% from 'driver/card.jinja' import needs_card %}

include:
  - driver.packages

{% set driver = pillar.driver %}

{% if driver.blocked %}
modules that would take the GPU are blocked:
  file.managed:
    - name: /etc/modprobe.d/vault-cube-driver.conf
    - user: root
    - group: root
    - mode: '0644'
    - contents:
      - '# written by salt/driver/modules.sls'
  {%- for module in driver.blocked %}
      - blacklist {{ module }}
      - install {{ module }} /bin/false
  {%- endfor %}

# The initial RAM disk contains its own copy of this file and loads modules before the root is mounted
initial RAM disk blocks the same modules:
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
    - user: root
    - group: root
    - mode: '0644'
    - contents: {{ (['# written by salt/driver/modules.sls'] + driver.load) | json }}

# The guest of the boot test has no GPU, and a box without its card must still boot so that somebody can examine it. There,
# the driver is loaded and unloaded once per module and file: in an emulated guest, this can take longer than systemd's 90 s
the boot succeeds if the driver finds no GPU:
  file.managed:
    - name: /etc/systemd/system/systemd-modules-load.service.d/vault-cube.conf
    - makedirs: True
    - user: root
    - group: root
    - mode: '0644'
    - contents: |
        # written by salt/driver/modules.sls
        [Service]
        SuccessExitStatus=1
        TimeoutStartSec=300
{% endif %}

{% if driver.persistence %}
nvidia-persistenced runs if there is a GPU:
  file.managed:
    - name: /etc/systemd/system/nvidia-persistenced.service.d/vault-cube.conf
    - makedirs: True
    - user: root
    - group: root
    - mode: '0644'
    - contents: |
        # written by salt/driver/modules.sls
        {%- if driver.provider == 'ubuntu' %}
        # Ubuntu's unit is started only by udev, stops when no unit needs it, and leaves persistence mode off
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
      - file: nvidia-persistenced runs if there is a GPU

the driver stays loaded while no program uses a GPU:
  unit.enabled:
    - name: nvidia-persistenced.service
    - require:
      - cmd: nvidia-persistenced runs if there is a GPU
{% endif %}

{% if not (driver.blocked or driver.load or driver.persistence) %}
this target loads and blocks no modules:
  test.nop: []
{% endif %}
