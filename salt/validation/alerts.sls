{% set monitoring = pillar.validation.monitoring %}

the monitoring folder exists:
  file.directory:
    - name: {{ monitoring.files }}/dashboards
    - makedirs: True
    - user: root
    - group: root
    - mode: '0755'

alerts have the pillar's thresholds:
  file.managed:
    - name: {{ monitoring.files }}/alerts.yml
    - source: salt://validation/files/alerts.yml
    - template: jinja
    - user: root
    - group: root
    - mode: '0644'
    - require:
      - file: the monitoring folder exists

Prometheus has its scrape configuration:
  file.managed:
    - name: {{ monitoring.files }}/prometheus.yml
    - source: salt://validation/files/prometheus.yml
    - template: jinja
    - user: root
    - group: root
    - mode: '0644'
    - require:
      - file: the monitoring folder exists

# cc_vault_cube_apply puts the host name of a seed into the scrape configuration, as these states would
cloud-init puts the seed's host name into the scrape configuration:
  file.managed:
    - name: /etc/cloud/cloud.cfg.d/zz-vault-cube-monitoring.cfg
    - user: root
    - group: root
    - mode: '0644'
    - contents:
      - '# written by salt/validation/alerts.sls'
      - {{ ('vault_cube_scrapes: {file: ' ~ (monitoring.files ~ '/prometheus.yml') | json ~ ', unit: prometheus.service}') | json }}

{% for name in ('availability', 'gpus', 'inference', 'overview', 'system') %}
Grafana has the dashboard {{ name }}:
  file.managed:
    - name: {{ monitoring.files }}/dashboards/{{ name }}.json
    - source: salt://validation/files/dashboards/{{ name }}.json
    - template: jinja
    - user: root
    - group: root
    - mode: '0644'
    - require:
      - file: the monitoring folder exists
{% endfor %}
