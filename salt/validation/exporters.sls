include:
  - validation.tools

{% from 'base/sandbox.jinja' import sandbox with context %}
{% set monitoring = pillar.validation.monitoring %}
{% set address = '[' ~ monitoring.address ~ ']' if ':' in monitoring.address else monitoring.address %}

# Written before the package is installed, because the package's unit would listen on all addresses
the node exporter listens on the pillar's address:
  file.managed:
    - name: /etc/systemd/system/prometheus-node-exporter.service.d/vault-cube.conf
    - user: root
    - group: root
    - mode: '0644'
    - makedirs: True
    - contents: |
        # written by salt/validation/exporters.sls
        [Service]
        ExecStart=
        ExecStart=/usr/bin/prometheus-node-exporter --web.listen-address={{ address }}:{{ monitoring.port }} \
          --collector.systemd --collector.textfile.directory={{ monitoring.textfiles }}
        # it reads the sizes of mounts below /home
        ProtectHome=read-only
        MemoryDenyWriteExecute=yes
        UMask=0077
        PrivateDevices=yes
        # it reads the state of the clock, which ProtectClock would forbid
        {{ sandbox(families='AF_UNIX AF_INET AF_INET6 AF_NETLINK', devices=True, calls='adjtimex clock_adjtime') | indent(8) }}
    - require_in:
      - packages: diagnostic tools are installed

readings have a folder:
  file.directory:
    - name: {{ monitoring.textfiles | json }}
    - makedirs: True
    # ids, because under test=True Salt warns about names that an earlier state would create
    - user: {{ monitoring.uid }}
    - group: {{ monitoring.uid }}
    - mode: '0755'

{% set readings = {
  'gpus': {'user': monitoring.user, 'every': monitoring.gpus_every_s, 'what': 'GPUs', 'on': pillar.target.accelerator == 'nvidia'},
  'disks': {'user': 'root', 'every': monitoring.disks_every_s, 'what': 'disks', 'on': True},
} %}
{% for name, reading in readings.items() %}
{% set unit = 'vault-cube-' ~ name %}
{{ reading.what }} are read by a service:
  file.managed:
    - name: /etc/systemd/system/{{ unit }}.service
    - source: salt://validation/files/readings.service
    - template: jinja
    - user: root
    - group: root
    - mode: '0644'
    - context: {name: {{ name }}, user: {{ reading.user | json }}, what: {{ reading.what }}}

{{ reading.what }} are read every {{ reading.every }} s:
  file.managed:
    - name: /etc/systemd/system/{{ unit }}.timer
    - user: root
    - group: root
    - mode: '0644'
    - contents: |
        # written by salt/validation/exporters.sls
        [Unit]
        Description=Readings of the {{ reading.what }}, every {{ reading.every }} s

        [Timer]
        OnBootSec=0
        OnUnitActiveSec={{ reading.every }}
        AccuracySec=1

        [Install]
        WantedBy=timers.target

{{ unit }} has its timer {{ 'on' if reading.on else 'off' }}:
  unit.{{ 'enabled' if reading.on else 'disabled' }}:
    - name: {{ unit }}.timer
    - require:
      - file: {{ reading.what }} are read by a service
      - file: {{ reading.what }} are read every {{ reading.every }} s
      - file: readings have a folder
{% endfor %}

the node exporter is on:
  unit.enabled:
    - name: prometheus-node-exporter.service
    - require:
      - file: the node exporter listens on the pillar's address
      - file: readings have a folder

exporters read their settings again:
  cmd.run:
    - name: systemctl daemon-reload && systemctl try-restart prometheus-node-exporter.service vault-cube-gpus.timer
            vault-cube-disks.timer
    - onlyif: test -d /run/systemd/system
    - onchanges:
      - file: the node exporter listens on the pillar's address
{%- for reading in readings.values() %}
      - file: {{ reading.what }} are read by a service
      - file: {{ reading.what }} are read every {{ reading.every }} s
{%- endfor %}
    - require:
      - unit: the node exporter is on
