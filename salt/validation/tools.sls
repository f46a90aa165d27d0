# A fixed id, because the packages would take the next free one, and files belong to it
{% set monitoring = pillar.validation.monitoring %}

exporters run as a user of their own:
  group.present:
    - name: {{ monitoring.user | json }}
    - gid: {{ monitoring.uid }}
    - system: True
  user.present:
    - name: {{ monitoring.user | json }}
    - uid: {{ monitoring.uid }}
    - gid: {{ monitoring.uid }}
    - system: True
    - home: /var/lib/prometheus
    - createhome: False
    - shell: /usr/sbin/nologin
    - require:
      - group: exporters run as a user of their own

diagnostic tools are installed:
  packages.installed:
    - pkgs: {{ pillar.validation.packages | json }}
    - supplies: {{ pillar.base.supplies | json }}
    - lock: {{ opts.vault_cube.checkout }}/locks/{{ pillar.target.name }}/apt.lock
