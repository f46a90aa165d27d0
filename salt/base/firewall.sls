# Files, because the ufw command changes the firewall of the running kernel, which in a chroot is the builder's
{% set firewall = pillar.base.firewall %}

ufw is on at boot:
  shared.assignments:
    - name: /etc/ufw/ufw.conf
    - values: {ENABLED: 'yes'}
    - defaults: {LOGLEVEL: low}
    - require:
      - sls: base.packages

nothing comes in, everything goes out:
  shared.assignments:
    - name: /etc/default/ufw
    - values:
        IPV6: 'yes'
        DEFAULT_INPUT_POLICY: '"DROP"'
        DEFAULT_OUTPUT_POLICY: '"ACCEPT"'
        DEFAULT_FORWARD_POLICY: '"DROP"'
    # the package's values; without them ufw does not start
    - defaults:
        DEFAULT_APPLICATION_POLICY: '"SKIP"'
        MANAGE_BUILTINS: 'no'
        IPT_SYSCTL: /etc/ufw/sysctl.conf
        IPT_MODULES: '""'
    - require:
      - sls: base.packages

# ufw itself writes the owner's rules (`ufw allow`, `ufw route allow`) into the same files
{% for family, name in (('', 'user.rules'), ('6', 'user6.rules')) %}
ports that are open, IPv{{ family or '4' }}:
  file.managed:
    - name: /etc/ufw/{{ name }}
    - source: salt://base/files/ufw.rules
    - template: jinja
    - mode: '0640'
    - context:
        family: '{{ family }}'
        ports: {{ firewall.allow_tcp | json }}
        others: {{ salt['shared.other_rules']('/etc/ufw/' ~ name, firewall.allow_tcp) | json }}
    - require:
      - sls: base.packages

# For published ports the kernel evaluates Docker's rules before ufw's, and the chain DOCKER-USER before Docker's rules
published container ports obey the firewall, IPv{{ family or '4' }}:
  file.managed:
    - name: /etc/ufw/after{{ family }}.rules
    - source: salt://base/files/ufw-after.rules
    - template: jinja
    - mode: '0640'
    - context: {family: '{{ family }}'}
    - require:
      - sls: base.packages
{% endfor %}

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
