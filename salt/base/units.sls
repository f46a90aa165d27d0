{% for name in pillar.base.units %}
{{ name }} is on:
  unit.enabled:
    - name: {{ name | json }}
{% endfor %}
{% for name in pillar.base.units_off %}
{{ name }} is off:
  unit.disabled:
    - name: {{ name | json }}
{% endfor %}
