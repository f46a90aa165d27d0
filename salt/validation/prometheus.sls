include:
  - validation.tools
  - validation.alerts

{% set prometheus = pillar.validation.monitoring.prometheus %}

{% if prometheus.enabled %}
# Written before the package is installed, because the package's unit would listen on all addresses
Prometheus listens on loopback only:
  file.managed:
    - name: /etc/systemd/system/prometheus.service.d/vault-cube.conf
    - user: root
    - group: root
    - mode: '0644'
    - makedirs: True
    - contents: |
        # written by salt/validation/prometheus.sls
        [Service]
        ExecStart=
        ExecStart=/usr/bin/prometheus --config.file={{ pillar.validation.monitoring.files }}/prometheus.yml \
          --storage.tsdb.path=/var/lib/prometheus/metrics2 --storage.tsdb.retention.time={{ prometheus.retention_days }}d \
          --web.listen-address=127.0.0.1:{{ prometheus.port }}
    - require_in:
      - packages: diagnostic tools are installed

Prometheus is on:
  unit.enabled:
    - name: prometheus.service

Prometheus reads its settings again:
  cmd.run:
    - name: systemctl daemon-reload && systemctl try-restart prometheus.service
    - onlyif: test -d /run/systemd/system
    - onchanges:
      - file: Prometheus listens on loopback only
      - file: Prometheus has its scrape configuration
      - file: alerts have the pillar's thresholds
    - require:
      - unit: Prometheus is on
{% else %}
Prometheus does not run on this box:
  unit.disabled:
    - name: prometheus.service
{% endif %}
