{% set frameworks = pillar.frameworks %}

{% for name in frameworks.kernels %}
Jupyter offers {{ name }}:
  file.serialize:
    - name: /usr/local/share/jupyter/kernels/{{ name }}/kernel.json
    - dataset:
        argv: [{{ (frameworks.folder ~ '/' ~ name ~ '/bin/python') | json }}, -m, ipykernel_launcher, -f, '{connection_file}']
        display_name: {{ name | json }}
        language: python
    - serializer: json
    - makedirs: True
    - user: root
    - group: root
    - mode: '0644'
{% else %}
this target has no Jupyter kernels:
  test.nop: []
{% endfor %}
