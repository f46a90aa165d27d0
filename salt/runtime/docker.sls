include:
  - runtime.packages

{% set runtime = pillar.runtime %}

{% if runtime.provider == 'nvidia' %}
# daemon.json is the base layer's; the toolkit's own tool adds its keys and leaves the others
Docker gives out GPUs:
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
    - require:
      - sls: runtime.packages

containers keep their GPUs when systemd reloads:
  file.serialize:
    - name: /etc/docker/daemon.json
    - dataset:
        exec-opts: [native.cgroupdriver={{ runtime.cgroup_driver }}]
    - serializer: json
    - merge_if_exists: True
    - require:
      - cmd: Docker gives out GPUs

# runc asks udev's /dev/char for a device's rule; the driver makes no such links (nvidia-container-toolkit issue 48)
GPU devices are found by number:
  file.managed:
    - name: /etc/udev/rules.d/71-vault-cube-nvidia.rules
    - mode: '0644'
    - contents:
      - '# written by salt/runtime/docker.sls'
      - >-
        ACTION=="add", DEVPATH=="/bus/pci/drivers/nvidia",
        RUN+="/usr/bin/nvidia-ctk system create-dev-char-symlinks --create-all"

{% if runtime.mode == 'cdi' %}
CDI specification follows the driver:
  unit.enabled:
    - name: nvidia-cdi-refresh.path
    - require:
      - sls: runtime.packages
{% endif %}

Docker reads its configuration again:
  cmd.run:
    - name: systemctl restart docker.service
    - onlyif: test -d /run/systemd/system
    - onchanges:
      - cmd: Docker gives out GPUs
      - file: containers keep their GPUs when systemd reloads
{% elif runtime.provider == 'none' %}
containers get no GPU on this target:
  test.nop: []
{% endif %}
