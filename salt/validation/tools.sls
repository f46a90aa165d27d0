# the packages would take the next free id; files belong to it, so it is fixed
{% set monitoring = pillar.validation.monitoring %}

exporters run as a user of their own:
  group.present:
    - name: {{ monitoring.user }}
    - gid: {{ monitoring.uid }}
    - system: True
  user.present:
    - name: {{ monitoring.user }}
    - uid: {{ monitoring.uid }}
    - gid: {{ monitoring.uid }}
    - system: True
    - home: /var/lib/prometheus
    - createhome: False
    - shell: /usr/sbin/nologin
    - require:
      - group: exporters run as a user of their own

tools to look at a box are installed:
  pkg.installed:
    - pkgs: {{ pillar.validation.packages | json }}
    - install_recommends: False
    - require:
      - user: exporters run as a user of their own
