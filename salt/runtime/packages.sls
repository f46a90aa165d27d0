include:
  - runtime.repositories

{% if pillar.runtime.packages %}
container toolkit is installed:
  pkg.installed:
    - pkgs: {{ pillar.runtime.packages | json }}
    - install_recommends: False
    - require:
      - sls: runtime.repositories
{% else %}
containers need no toolkit on this target:
  test.nop: []
{% endif %}
