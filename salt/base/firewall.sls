# Files, because the ufw command changes the firewall of the running kernel, which in a chroot is the builder's
{% set firewall = pillar.base.firewall %}

ufw is on at boot:
  shared.assignments:
    - name: /etc/ufw/ufw.conf
    - user: root
    - group: root
    - mode: '0644'
    - values: {ENABLED: 'yes'}
    - defaults: {LOGLEVEL: low}

nothing comes in, everything goes out:
  shared.assignments:
    - name: /etc/default/ufw
    - user: root
    - group: root
    - mode: '0644'
    - values:
        IPV6: 'yes'
        DEFAULT_INPUT_POLICY: '"DROP"'
        DEFAULT_OUTPUT_POLICY: '"ACCEPT"'
        DEFAULT_FORWARD_POLICY: '"DROP"'
        # none: ufw starts after systemd-sysctl.service, and its file would override values of salt/base/kernel.sls. Not our
        # file, because ufw-init in a tree would set the builder's kernel
        IPT_SYSCTL: '""'
    # the package's values; without them ufw does not start
    - defaults:
        DEFAULT_APPLICATION_POLICY: '"SKIP"'
        MANAGE_BUILTINS: 'no'
        IPT_MODULES: '""'

# ufw itself writes the owner's rules (`ufw allow`, `ufw route allow`) into the same files
{% for family, name in (('', 'user.rules'), ('6', 'user6.rules')) %}
ports that are open, IPv{{ family or '4' }}:
  file.managed:
    - name: /etc/ufw/{{ name }}
    - source: salt://base/files/ufw.rules
    - template: jinja
    - user: root
    - group: root
    - mode: '0640'
    - context:
        family: '{{ family }}'
        ports: {{ firewall.allow_tcp | json }}
        container_ports: {{ firewall.container_tcp | json }}
        others: {{ salt['shared.other_rules']('/etc/ufw/' ~ name, firewall.allow_tcp) | json }}

# For published ports the kernel evaluates Docker's rules before ufw's, and the chain DOCKER-USER before Docker's rules
published container ports obey the firewall, IPv{{ family or '4' }}:
  file.managed:
    - name: /etc/ufw/after{{ family }}.rules
    - source: salt://base/files/ufw-after.rules
    - template: jinja
    - user: root
    - group: root
    - mode: '0640'
    - context: {family: '{{ family }}'}
{% endfor %}

# By default, every interface counts as facing outwards. A bridge that Docker has made does not; one that networkd or netplan
# configures may have a port of the network, so it does
bridges of containers form a group:
  file.managed:
    - name: /etc/udev/rules.d/99-vault-cube-bridges.rules
    - user: root
    - group: root
    - mode: '0644'
    - contents:
      - '# written by salt/base/firewall.sls'
      - >-
        SUBSYSTEM=="net", ACTION=="add", ENV{DEVTYPE}=="bridge",
        PROGRAM=="/bin/sh -c '! grep -qsx Name=%k /etc/systemd/network/*.netdev /run/systemd/network/*.netdev'",
        RUN+="/bin/ip link set dev %k group 7663"
  cmd.run:
    - name: udevadm control --reload && udevadm trigger --settle --subsystem-match=net --action=add
    - onlyif: test -d /run/systemd/system
    - onchanges:
      - file: bridges of containers form a group

the firewall reads its rules again:
  cmd.run:
    - name: ufw reload
    - onlyif: test -d /run/systemd/system
    - onchanges:
      - shared: ufw is on at boot
      - shared: nothing comes in, everything goes out
      - file: /etc/ufw/user.rules
      - file: /etc/ufw/user6.rules
      - file: /etc/ufw/after.rules
      - file: /etc/ufw/after6.rules
