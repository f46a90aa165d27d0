include:
  - runtime.repositories

{% if pillar.runtime.packages %}
container toolkit is installed:
  packages.installed:
    - pkgs: {{ pillar.runtime.packages | json }}
    - supplies: {{ pillar.base.supplies | json }}
    - lock: {{ opts.vault_cube.checkout }}/locks/{{ pillar.target.name }}/apt.lock
{% else %}
containers need no toolkit on this target:
  test.nop: []
{% endif %}
