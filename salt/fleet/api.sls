{% from 'fleet/paths.jinja' import user, programs, etc, lib, cache, logs, run %}
{% set server = pillar.fleet.server %}

nginx has its configuration:
  file.managed:
    - name: {{ etc }}/nginx.conf
    - source: salt://fleet/files/nginx.conf
    - template: jinja
    - mode: '0644'
    - makedirs: True

# No NoNewPrivileges here: PAM's helper reads the passwords with the group shadow
salt-api is a service on loopback:
  file.managed:
    - name: /etc/systemd/system/vault-cube-fleet-api.service
    - mode: '0644'
    - contents: |
        # written by salt/fleet/api.sls
        [Unit]
        Description=salt-api of the fleet, on loopback
        After=vault-cube-fleet-master.service
        Requires=vault-cube-fleet-master.service

        [Service]
        Type=exec
        User={{ user }}
        ExecStart={{ programs }}/venv/bin/salt-api -c {{ etc }} -l quiet
        MemoryMax={{ server.api_memory_mib }}M
        LimitNOFILE=8192
        Restart=always
        RestartSec=5
        ProtectSystem=strict
        ReadWritePaths={{ lib }} {{ cache }} {{ logs }} {{ run }}
        ProtectHome=yes
        PrivateTmp=yes

        [Install]
        WantedBy=multi-user.target

nginx with TLS is a service:
  file.managed:
    - name: /etc/systemd/system/vault-cube-fleet-tls.service
    - mode: '0644'
    - contents: |
        # written by salt/fleet/api.sls
        [Unit]
        Description=nginx with TLS, in front of the fleet's salt-api
        Wants=network-online.target
        After=network-online.target vault-cube-fleet-api.service

        [Service]
        Type=exec
        RuntimeDirectory=vault-cube-fleet-nginx
        ExecStart=/usr/sbin/nginx -c {{ etc }}/nginx.conf
        ExecReload=/bin/kill -HUP $MAINPID
        Restart=on-failure
        RestartSec=5

        [Install]
        WantedBy=multi-user.target

{% for unit, file in (('vault-cube-fleet-api.service', 'salt-api is a service on loopback'),
                      ('vault-cube-fleet-tls.service', 'nginx with TLS is a service')) %}
{{ unit }} is on:
  unit.enabled:
    - name: {{ unit }}
    - require:
      - unit: the master is on
      - file: {{ file }}
      - file: nginx has its configuration
      - cmd: salt-api has a certificate
{% endfor %}

salt-api and nginx read their configuration again:
  cmd.run:
    - name: systemctl daemon-reload && systemctl restart vault-cube-fleet-api.service vault-cube-fleet-tls.service
    - onlyif: test -d /run/systemd/system
    - onchanges:
      - cmd: the master has a Python environment from its lock
      - cmd: salt-api has a certificate
      - file: the master has its configuration
      - file: nginx has its configuration
      - file: salt-api is a service on loopback
      - file: nginx with TLS is a service
    - require:
      - unit: vault-cube-fleet-api.service is on
      - unit: vault-cube-fleet-tls.service is on
      - cmd: the master reads its configuration again
