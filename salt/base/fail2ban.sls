{% set fail2ban = pillar.base.fail2ban %}

# The journal backend needs python3-systemd (in base:packages). Without it the server starts without an error, but bans nobody
who fails at ssh is shut out:
  file.managed:
    - name: /etc/fail2ban/jail.d/00-vault-cube.local
    - user: root
    - group: root
    - mode: '0644'
    - contents: |
        # written by salt/base/fail2ban.sls
        [DEFAULT]
        backend = systemd
        banaction = iptables-multiport
        banaction_allports = iptables-allports

        [sshd]
        enabled = true
        mode = aggressive
        # since OpenSSH 9.8, sshd-session logs failed logins
        journalmatch = _SYSTEMD_UNIT=ssh.service + _COMM=sshd + _COMM=sshd-session
        port = {{ pillar.base.ssh.port }}
        maxretry = {{ fail2ban.failures }}
        findtime = {{ fail2ban.within_s }}
        bantime = {{ fail2ban.ban_s }}
        action = %(action_)s
                 vault-cube-console

# Behind NAT, the refusals do not arrive: connections of a banned address just time out
a ban is shown on the console:
  file.managed:
    - name: /etc/fail2ban/action.d/vault-cube-console.conf
    - user: root
    - group: root
    - mode: '0644'
    - contents: |
        # written by salt/base/fail2ban.sls
        [Definition]
        actionban = echo "vault-cube: fail2ban: <ip> may not connect to ssh for <bantime> s: too many failed logins" >/dev/console
    - require_in:
      - file: who fails at ssh is shut out

fail2ban watches IPv6 if the box has it:
  file.managed:
    - name: /etc/fail2ban/fail2ban.d/00-vault-cube.local
    - user: root
    - group: root
    - mode: '0644'
    - contents: |
        # written by salt/base/fail2ban.sls
        [Definition]
        allowipv6 = auto

fail2ban reads its jails again:
  cmd.run:
    - name: fail2ban-client reload
    # a service that does not run reads its jails when it starts
    - onlyif: systemctl --quiet is-active fail2ban.service
    - onchanges:
      - file: who fails at ssh is shut out
      - file: a ban is shown on the console
