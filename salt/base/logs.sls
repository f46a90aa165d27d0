{% set logs = pillar.base.logs %}

# The last file wins: zz- sorts after Debian's syslog.conf
the journal is kept, within limits:
  file.managed:
    - name: /etc/systemd/journald.conf.d/zz-vault-cube.conf
    - user: root
    - group: root
    - mode: '0644'
    - makedirs: True
    - contents: |
        # written by salt/base/logs.sls
        [Journal]
        Storage=persistent
        SystemMaxUse={{ logs.journal_mb }}M
        MaxRetentionSec={{ logs.journal_days }}day
        # CIS 6.1.2.2: there is no syslog daemon; Debian 12 forwards, Debian 13 does not
        ForwardToSyslog=no

the journal has its folder:
  file.directory:
    - name: /var/log/journal
    - user: root
    - group: systemd-journal
    - mode: '2755'

the journal reads its limits again:
  cmd.run:
    - name: systemctl restart systemd-journald.service
    - onlyif: test -d /run/systemd/system
    - onchanges:
      - file: the journal is kept, within limits
