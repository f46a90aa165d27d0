{% from 'driver/card.jinja' import needs_card %}

include:
  - runtime.packages

{% set runtime = pillar.runtime %}

{% if runtime.provider == 'nvidia' %}
# The base layer writes daemon.json. nvidia-ctk adds the toolkit's keys and keeps the others
Docker passes GPUs to containers:
  cmd.run:
    {%- if runtime.mode == 'cdi' %}
    - name: nvidia-ctk runtime configure --runtime=docker --cdi.enabled
    - unless: >-
        python3 -c 'import json, sys;
        sys.exit(json.load(open("/etc/docker/daemon.json")).get("features", {}).get("cdi") is not True)'
    {%- else %}
    - name: nvidia-ctk runtime configure --runtime=docker
    - unless: >-
        python3 -c 'import json, sys;
        sys.exit("nvidia" not in json.load(open("/etc/docker/daemon.json")).get("runtimes", {}))'
    {%- endif %}

containers keep their GPUs when systemd reloads:
  shared.json_object:
    - name: /etc/docker/daemon.json
    - user: root
    - group: root
    - mode: '0644'
    - values:
        exec-opts: [native.cgroupdriver={{ runtime.cgroup_driver }}]
    - require:
      - cmd: Docker passes GPUs to containers

# runc needs the links in /dev/char to write a device rule, and the driver does not create them (nvidia-container-toolkit issue 48).
# 99-, because a later rule could clear RUN
GPU devices have links in /dev/char:
  file.managed:
    - name: /etc/udev/rules.d/99-vault-cube-nvidia.rules
    - user: root
    - group: root
    - mode: '0644'
    - contents:
      - '# written by salt/runtime/docker.sls'
      - >-
        ACTION=="add", DEVPATH=="/bus/pci/drivers/nvidia",
        RUN+="/usr/bin/nvidia-ctk system create-dev-char-symlinks --create-all"

{% if runtime.mode == 'cdi' %}
# The package enables the unit. Without a card, nvidia-smi fails and the unit would fail with it
the toolkit writes a CDI specification if there is a GPU:
  file.managed:
    - name: /etc/systemd/system/nvidia-cdi-refresh.service.d/vault-cube.conf
    - makedirs: True
    - user: root
    - group: root
    - mode: '0644'
    - contents: |
        # written by salt/runtime/docker.sls
        [Service]
        {{ needs_card }}
  cmd.run:
    - name: systemctl daemon-reload
    - onlyif: test -d /run/systemd/system
    - onchanges:
      - file: the toolkit writes a CDI specification if there is a GPU

# The service runs at boot, and the path unit starts it after a change of the driver
{% for unit in ('nvidia-cdi-refresh.service', 'nvidia-cdi-refresh.path') %}
CDI specification follows the driver, {{ unit }}:
  unit.enabled:
    - name: {{ unit }}
    - require:
      - cmd: the toolkit writes a CDI specification if there is a GPU
{% endfor %}
{% endif %}

Docker reads its configuration again:
  cmd.run:
    - name: systemctl restart docker.service
    - onlyif: systemctl --quiet is-active docker.service
    - onchanges:
      - cmd: Docker passes GPUs to containers
      - shared: containers keep their GPUs when systemd reloads
{% elif runtime.provider == 'none' %}
containers get no GPU on this target:
  test.nop: []
{% endif %}
