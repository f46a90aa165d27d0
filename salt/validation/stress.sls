{% from 'base/paths.jinja' import checkout %}
{% set stress = pillar.benchmark.stress %}

a long burn-in runs as a service:
  file.managed:
    - name: /etc/systemd/system/{{ stress.unit }}
    - user: root
    - group: root
    - mode: '0644'
    - contents: |
        # written by salt/validation/stress.sls
        [Unit]
        Description=Burn-in of all GPUs (gpu.stress)
        Documentation=file://{{ checkout }}/salt/validation/README.md
        After=multi-user.target nvidia-persistenced.service
        # gpu.stress creates this file, and removes it when it writes its verdict: an unfinished burn-in continues after a reboot
        ConditionPathExists={{ pillar.benchmark.results }}/unfinished
        StartLimitIntervalSec=600
        StartLimitBurst=5

        [Service]
        Type=exec
        ExecStart=/usr/local/bin/salt-call --local --retcode-passthrough gpu.stress resume=True
        Restart=on-failure
        RestartSec=30
        TimeoutStopSec=60
        OOMPolicy=stop

        [Install]
        WantedBy=multi-user.target

a burn-in continues after a reboot:
  unit.enabled:
    - name: {{ stress.unit | json }}
    - require:
      - file: a long burn-in runs as a service
