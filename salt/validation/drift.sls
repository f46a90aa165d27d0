{% from 'base/paths.jinja' import checkout %}
{% set drift = pillar.validation.drift %}

{% for name, options, when, what in (
  ('vault-cube-drift', '', drift.every, 'files that were written since'),
  ('vault-cube-drift-full', ' full=True', drift.full_every, 'all files'),
) %}
{{ name }} compares the box with its image:
  file.managed:
    - name: /etc/systemd/system/{{ name }}.service
    - user: root
    - group: root
    - mode: '0644'
    - contents: |
        # written by salt/validation/drift.sls
        [Unit]
        Description=Compare this box with its states and its image, reading {{ what }}
        Documentation=file://{{ checkout }}/docs/runbooks/BoxDrifted.md
        ConditionPathExists=/usr/lib/vault-cube/drift

        [Service]
        Type=oneshot
        ExecStart=/usr/local/bin/salt-call --local --log-level=quiet --retcode-passthrough drift.report{{ options }}
        # 2: drift, which has its own metric and alert
        SuccessExitStatus=2
        TimeoutStartSec=2h
        Nice=19
        CPUSchedulingPolicy=idle
        IOSchedulingClass=idle

{{ name }} has a timer:
  file.managed:
    - name: /etc/systemd/system/{{ name }}.timer
    - user: root
    - group: root
    - mode: '0644'
    - contents: |
        # written by salt/validation/drift.sls
        [Unit]
        Description=Compare this box with its states and its image, {{ when }}

        [Timer]
        OnCalendar={{ when }}
        RandomizedDelaySec=1h
        Persistent=true

        [Install]
        WantedBy=timers.target

{{ name }} has its timer on:
  unit.enabled:
    - name: {{ name }}.timer
    - require:
      - file: {{ name }} compares the box with its image
      - file: {{ name }} has a timer
{% endfor %}

comparisons read their settings again:
  cmd.run:
    - name: systemctl daemon-reload && systemctl try-restart vault-cube-drift.timer vault-cube-drift-full.timer
    - onlyif: test -d /run/systemd/system
    - onchanges:
      - file: vault-cube-drift compares the box with its image
      - file: vault-cube-drift has a timer
      - file: vault-cube-drift-full compares the box with its image
      - file: vault-cube-drift-full has a timer
    - require:
      - unit: vault-cube-drift has its timer on
      - unit: vault-cube-drift-full has its timer on
