include:
  - validation.tools
  - validation.alerts

{% set prometheus = pillar.validation.monitoring.prometheus %}

{% if prometheus.enabled %}
# before the package: its own unit would start on all addresses
Prometheus keeps to itself:
  file.managed:
    - name: /etc/systemd/system/prometheus.service.d/vault-cube.conf
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
      - pkg: tools to look at a box are installed

Prometheus is on:
  unit.enabled:
    - name: prometheus.service
    - require:
      - pkg: tools to look at a box are installed
      - sls: validation.alerts

Prometheus reads its settings again:
  cmd.run:
    - name: systemctl daemon-reload && systemctl restart prometheus.service
    - onlyif: test -d /run/systemd/system
    - onchanges:
      - file: Prometheus keeps to itself
      - file: a Prometheus knows whom to ask
      - file: alerts have the pillar's thresholds
    - require:
      - unit: Prometheus is on
{% else %}
Prometheus runs elsewhere or not at all:
  unit.disabled:
    - name: prometheus.service
{% endif %}
