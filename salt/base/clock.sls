# Files, because timezone.system needs a daemon that does not run in a chroot
the time zone:
  file.symlink:
    - name: /etc/localtime
    - target: /usr/share/zoneinfo/{{ pillar.base.timezone }}
    - force: True

the time zone's name:
  file.managed:
    - name: /etc/timezone
    - user: root
    - group: root
    - mode: '0644'
    - contents: {{ pillar.base.timezone | json }}

the locale:
  file.managed:
    - name: /etc/default/locale
    - user: root
    - group: root
    - mode: '0644'
    - contents: LANG={{ pillar.base.locale }}
