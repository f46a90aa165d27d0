{% from 'fleet/paths.jinja' import user, programs, etc, lib, cache, logs, run %}

{% for folder in (lib, lib ~ '/pki', lib ~ '/files', lib ~ '/files/releases', lib ~ '/report', cache, logs) %}
{{ folder }} is the master's:
  file.directory:
    - name: {{ folder }}
    - user: {{ user }}
    - group: {{ user }}
    - makedirs: True
{%- if folder != cache %}
    # Salt sets the mode of its cache itself
    - mode: '0750'
{%- endif %}
    - require:
      - user: the master runs as a user of its own
{% endfor %}

the master serves the rollout and the releases:
  file.managed:
    - name: {{ lib }}/files/fleet/rollout.sls
    - source: salt://fleet/orchestrate/rollout.sls
    - mode: '0644'
    - makedirs: True

the master has its configuration:
  file.managed:
    - name: {{ etc }}/master
    - source: salt://fleet/files/master
    - template: jinja
    - mode: '0640'
    - group: {{ user }}
    - makedirs: True
    - require:
      - user: the master runs as a user of its own

the master's logs are rotated:
  file.managed:
    - name: /etc/logrotate.d/vault-cube-fleet
    - mode: '0644'
    - contents: |
        # written by salt/fleet/master.sls
        {{ logs }}/* {
          su {{ user }} {{ user }}
          weekly
          rotate 52
          compress
          delaycompress
          missingok
          notifempty
          copytruncate
        }

the master is a service:
  file.managed:
    - name: /etc/systemd/system/vault-cube-fleet-master.service
    - mode: '0644'
    - contents: |
        # written by salt/fleet/master.sls
        [Unit]
        Description=Salt master of the fleet
        Wants=network-online.target
        After=network-online.target

        [Service]
        Type=exec
        User={{ user }}
        RuntimeDirectory={{ run | replace('/run/', '') }}
        RuntimeDirectoryPreserve=yes
        ExecStart={{ programs }}/venv/bin/salt-master -c {{ etc }} -l quiet
        LimitNOFILE=100000
        Restart=on-failure
        RestartSec=15
        ProtectSystem=strict
        ReadWritePaths={{ lib }} {{ cache }} {{ logs }}
        ProtectHome=yes
        PrivateTmp=yes

        [Install]
        WantedBy=multi-user.target

the master is on:
  unit.enabled:
    - name: vault-cube-fleet-master.service
    - require:
      - cmd: the master has a Python environment from its lock
      - file: the master has its configuration
      - file: the master is a service

the master reads its configuration again:
  cmd.run:
    - name: systemctl daemon-reload && systemctl restart vault-cube-fleet-master.service
    - onlyif: test -d /run/systemd/system
    - onchanges:
      - checkout: the master has its own copy of the code
      - cmd: the master has a Python environment from its lock
      - file: the master has its configuration
      - file: the master is a service
    - require:
      - unit: the master is on
