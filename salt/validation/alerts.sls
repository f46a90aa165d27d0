{% set monitoring = pillar.validation.monitoring %}

monitoring has a folder:
  file.directory:
    - name: {{ monitoring.files }}/dashboards
    - makedirs: True
    - mode: '0755'

alerts have the pillar's thresholds:
  file.managed:
    - name: {{ monitoring.files }}/alerts.yml
    - source: salt://validation/files/alerts.yml
    - template: jinja
    - mode: '0644'
    - require:
      - file: monitoring has a folder

a Prometheus knows whom to ask:
  file.managed:
    - name: {{ monitoring.files }}/prometheus.yml
    - source: salt://validation/files/prometheus.yml
    - template: jinja
    - mode: '0644'
    - require:
      - file: monitoring has a folder

{% for name in ('availability', 'gpus', 'inference', 'overview', 'system') %}
Grafana has the board {{ name }}:
  file.managed:
    - name: {{ monitoring.files }}/dashboards/{{ name }}.json
    - source: salt://validation/files/dashboards/{{ name }}.json
    - template: jinja
    - mode: '0644'
    - require:
      - file: monitoring has a folder
{% endfor %}
