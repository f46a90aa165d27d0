libraries and compilers that the frameworks need are installed:
  packages.installed:
    - pkgs: {{ pillar.frameworks.packages | json }}
    - supplies: {{ pillar.base.supplies | json }}
    - lock: {{ opts.vault_cube.checkout }}/locks/{{ pillar.target.name }}/apt.lock
