# The minion of a fleet: docs/fleet.md. /etc/salt/minion stays masterless; this one has a configuration and a key of its own
{% from 'base/paths.jinja' import checkout, salt_environment %}
{% set fleet = pillar.fleet %}
{% set unit = 'vault-cube-fleet.service' %}
{% set folder = '/etc/salt/fleet' %}
{% set gate = '/opt/vault-cube/fleet' %}

{% if fleet.master %}
the fleet's folders belong to root:
  file.directory:
    - names: [{{ gate }}, {{ folder }}]
    - user: root
    - group: root
    - mode: '0755'

# A copy, because the gate has to work whatever release is in the checkout
the gate of the fleet is installed:
  file.managed:
    - name: {{ gate }}/fleet_gate.py
    - source: {{ opts.vault_cube.checkout }}/_executors/fleet_gate.py
    - user: root
    - group: root
    - mode: '0644'

the fleet's minion has its configuration:
  file.managed:
    - name: {{ folder }}/minion
    - user: root
    - group: root
    - mode: '0644'
    - contents: |
        # written by salt/validation/fleet.sls
        id: {{ (fleet.id or pillar.base.hostname) | json }}
        master: {{ fleet.master | json }}
        master_finger: {{ fleet.master_key | json }}
        publish_port: {{ fleet.publish_port }}
        master_port: {{ fleet.request_port }}
        conf_file: {{ folder }}/minion
        pki_dir: /etc/salt/pki/fleet
        cachedir: /var/cache/salt/fleet
        extension_modules: /var/cache/salt/fleet/extension_modules
        sock_dir: /run/salt/fleet
        pidfile: /run/vault-cube-fleet.pid
        log_file: /var/log/salt/fleet
        log_level_logfile: info
        keysize: 3072
        # what the master may do
        executor_dirs: [{{ gate }}]
        module_executors: [fleet_gate]
        disable_executors: [direct_call, splay, sudo]
        fleet_gate:
          salt_call: [{{ salt_environment }}/bin/salt-call]
          allow: {{ fleet.allow | json }}
        # a request may name a returner, and with rawfile_json a file that root would write
        disable_returners: [highstate_return, local, local_cache, multi_returner, pgjsonb, postgres, postgres_local_cache,
                            rawfile_json, salt_cache, syslog_return]
        minion_sign_messages: True
        signing_algorithm: PKCS1v15-SHA224
        # the daemon has no other functions; without this list, it loads all modules for each function of the box
        whitelist_modules: [config, cp, event, grains, saltutil, status, test]
        # events and values of the master are not for this box
        autoload_dynamic_modules: False
        mine_enabled: False
        mine_functions: {}
        start_event_grains: []
        # grains are the box's own
        grains_dirs: [{{ checkout }}/_grains]
        beacons_dirs: [{{ checkout }}/_beacons]
        include: /etc/salt/minion.d/gpu-beacon.conf
        enable_fqdns_grains: False
        enable_gpu_grains: False
        minion_id_caching: False
        grains_cache: False
        # answers again soon after it was cut off
        tcp_keepalive: True
        tcp_keepalive_idle: {{ fleet.keepalive.idle_s }}
        tcp_keepalive_intvl: {{ fleet.keepalive.interval_s }}
        tcp_keepalive_cnt: {{ fleet.keepalive.probes }}
        return_retry_tries: 20
        cache_jobs: True

# KillMode=process: a job that restarts the minion returns its result
the fleet's minion is a service:
  file.managed:
    - name: /etc/systemd/system/{{ unit }}
    - user: root
    - group: root
    - mode: '0644'
    - contents: |
        # written by salt/validation/fleet.sls
        [Unit]
        Description=Salt minion of the fleet
        Documentation=file://{{ checkout }}/salt/validation/README.md
        Wants=network-online.target
        After=network-online.target

        [Service]
        Type=exec
        ExecStart={{ salt_environment }}/bin/salt-minion -c {{ folder }} -l quiet
        KillMode=process
        LimitNOFILE=8192
        Restart=on-failure
        RestartSec=15

        [Install]
        WantedBy=multi-user.target

the fleet's minion is on:
  unit.enabled:
    - name: {{ unit }}
    - require:
      - file: the gate of the fleet is installed
      - file: the fleet's minion has its configuration
      - file: the fleet's minion is a service

# After the last state and some seconds later, because a job of the fleet may be what applies these states
the fleet's minion reads its configuration again:
  cmd.run:
    - name: systemctl daemon-reload && systemd-run --collect --on-active=15 systemctl restart {{ unit }}
    - onlyif: test -d /run/systemd/system
    - order: last
    - onchanges:
      - file: the gate of the fleet is installed
      - file: the fleet's minion has its configuration
      - file: the fleet's minion is a service
    - require:
      - unit: the fleet's minion is on
{% else %}
the box is in no fleet:
  unit.disabled:
    - name: {{ unit }}

# with its key: a box that joins again is a new box for the master
{% for path in ('/etc/systemd/system/' ~ unit, folder, gate, '/etc/salt/pki/fleet', '/var/cache/salt/fleet') %}
no {{ path }}:
  file.absent:
    - name: {{ path }}
    - require:
      - unit: the box is in no fleet
{% endfor %}
{% endif %}
