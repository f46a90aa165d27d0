# GPUs for containers without NVIDIA's Container Toolkit: vault_cube/gpu/cdi.py writes the CDI specification
{% from 'base/paths.jinja' import checkout, salt_environment %}
{% from 'driver/card.jinja' import needs_card %}
{% from 'base/sandbox.jinja' import sandbox with context %}
{% set runtime = pillar.runtime %}

Docker reads CDI specifications:
  shared.json_object:
    - name: /etc/docker/daemon.json
    - user: root
    - group: root
    - mode: '0644'
    - values:
        features: {cdi: true}
        exec-opts: [native.cgroupdriver={{ runtime.cgroup_driver }}]
  cmd.run:
    - name: systemctl restart docker.service
    - onlyif: systemctl --quiet is-active docker.service
    - onchanges:
      - shared: Docker reads CDI specifications

# Before Docker, because Docker restarts containers that ran before the reboot. The unit is skipped if there is no GPU
CDI specification is written at boot:
  file.managed:
    - name: /etc/systemd/system/vault-cube-cdi.service
    - user: root
    - group: root
    - mode: '0644'
    - contents: |
        # written by salt/runtime/cdi.sls
        [Unit]
        Description=CDI specification of the GPUs
        Documentation=file://{{ checkout }}/salt/runtime/README.md
        After=systemd-modules-load.service nvidia-persistenced.service
        Before=docker.service
        # no limit, because every run of ldconfig starts this unit
        StartLimitIntervalSec=0

        [Service]
        Type=oneshot
        {{ needs_card }}
        # creates the device nodes that NVML does not create itself; +: loads modules, so without the sandbox
        ExecStartPre=+-/usr/bin/nvidia-modprobe -c 0 -u
        ExecStart={{ salt_environment }}/bin/python -m vault_cube.gpu.cdi /run/cdi/nvidia.yaml
        TimeoutStartSec=120
        RuntimeDirectory=cdi
        RuntimeDirectoryPreserve=yes
        ProtectHome=yes
        PrivateNetwork=yes
        {{ sandbox(devices=True) | indent(8) }}

        [Install]
        WantedBy=multi-user.target

# The specification is generated from ldconfig's cache, which changes whenever a package installs or removes a library
CDI specification follows the installed libraries:
  file.managed:
    - name: /etc/systemd/system/vault-cube-cdi.path
    - user: root
    - group: root
    - mode: '0644'
    - contents: |
        # written by salt/runtime/cdi.sls
        [Unit]
        Description=CDI specification of the GPUs, after a change of libraries

        [Path]
        PathChanged=/etc/ld.so.cache

        [Install]
        WantedBy=multi-user.target

# Needed because unit.enabled does not start a oneshot service that has already ended
CDI specification is written now:
  cmd.run:
    - name: systemctl daemon-reload && systemctl start vault-cube-cdi.service
    - onlyif: test -d /run/systemd/system
    - onchanges:
      - file: CDI specification is written at boot
      - file: CDI specification follows the installed libraries

{% for kind in ('service', 'path') %}
vault-cube-cdi.{{ kind }} starts at boot:
  unit.enabled:
    - name: vault-cube-cdi.{{ kind }}
    - require:
      - shared: Docker reads CDI specifications
      - file: CDI specification is written at boot
      - file: CDI specification follows the installed libraries
      - cmd: CDI specification is written now
{% endfor %}
