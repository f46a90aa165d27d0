{% from 'base/paths.jinja' import checkout %}
{% from 'driver/card.jinja' import needs_card %}
{% set dcgm = pillar.validation.monitoring.dcgm %}
{% set unit = 'vault-cube-dcgm-exporter.service' %}

{% if dcgm.image %}
# The digest fixes the container image, whether it arrives by docker pull or docker load
dcgm-exporter is a service:
  file.managed:
    - name: /etc/systemd/system/{{ unit }}
    - user: root
    - group: root
    - mode: '0644'
    - contents: |
        # written by salt/validation/dcgm.sls
        [Unit]
        Description=NVIDIA's dcgm-exporter, on loopback
        Documentation=file://{{ checkout }}/salt/validation/README.md
        After=docker.service nvidia-persistenced.service
        Requires=docker.service

        [Service]
        {{ needs_card }}
        ExecStart=/usr/bin/docker run --rm --name vault-cube-dcgm-exporter \
          {{ '--device nvidia.com/gpu=all' if pillar.runtime.mode == 'cdi' else '--gpus all' }} --cap-add SYS_ADMIN \
          --publish 127.0.0.1:{{ dcgm.port }}:9400 {{ dcgm.image }}
        ExecStop=/usr/bin/docker stop vault-cube-dcgm-exporter
        Restart=on-failure
        RestartSec=30

        [Install]
        WantedBy=multi-user.target

dcgm-exporter is on:
  unit.enabled:
    - name: {{ unit }}
    - require:
      - file: dcgm-exporter is a service
{% else %}
dcgm-exporter is off:
  unit.disabled:
    - name: {{ unit }}
{% endif %}
