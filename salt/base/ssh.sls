{% set ssh = pillar.base.ssh %}

# The first value that sshd reads wins: 00- sorts before cloud-init's 50-
ssh accepts keys only:
  file.managed:
    - name: /etc/ssh/sshd_config.d/00-vault-cube.conf
    - user: root
    - group: root
    - mode: '0600'
    - contents: |
        # written by salt/base/ssh.sls
        Port {{ ssh.port }}
        PermitRootLogin no
        PasswordAuthentication no
        KbdInteractiveAuthentication no
        PermitEmptyPasswords no
        AuthenticationMethods publickey
        AllowGroups {{ ssh.group }}
        MaxAuthTries {{ ssh.max_auth_tries }}
        LoginGraceTime 30
        X11Forwarding no
        AllowAgentForwarding {{ 'yes' if ssh.forward_agent else 'no' }}
        {%- if not (ssh.forward_ports or ssh.forward_sockets or ssh.forward_agent) %}
        # CIS 5.1.8. It also covers what later versions of sshd may forward, and overrides the single switches
        DisableForwarding yes
        {%- endif %}
        {%- if ssh.forward_ports %}
        AllowTcpForwarding local
        PermitOpen{% for port in ssh.forward_ports %} 127.0.0.1:{{ port }} localhost:{{ port }} [::1]:{{ port }}{% endfor %}
        {%- else %}
        AllowTcpForwarding no
        {%- endif %}
        AllowStreamLocalForwarding {{ 'local' if ssh.forward_sockets else 'no' }}
        GatewayPorts no
        PermitTunnel no
        PermitUserEnvironment no
        ClientAliveInterval 300
        ClientAliveCountMax 2
        Banner /etc/ssh/vault-cube-banner
        {%- for kind in ('ed25519', 'ecdsa', 'rsa') if kind in ssh.host_key_algorithms | join(',') %}
        HostKey /etc/ssh/ssh_host_{{ kind }}_key
        {%- endfor %}
        HostKeyAlgorithms {{ ssh.host_key_algorithms | join(',') }}
        KexAlgorithms {{ ssh.key_exchange | join(',') }}
        Ciphers {{ ssh.ciphers | join(',') }}
        MACs {{ ssh.macs | join(',') }}
        {%- for keyword, value in ssh.settings | dictsort if value is not none %}
        {{ keyword }} {{ value }}
        {%- endfor %}

# CIS 5.1.1
only root reads sshd's own file:
  file.managed:
    - name: /etc/ssh/sshd_config
    - replace: False
    - create: False
    - user: root
    - group: root
    - mode: '0600'

# A separate file: base:hardening:login_banner may leave /etc/issue.net to its package
ssh shows a banner before login:
  file.managed:
    - name: /etc/ssh/vault-cube-banner
    - user: root
    - group: root
    - mode: '0644'
    - contents: {{ ssh.banner | yaml_dquote }}

# ssh.socket takes its port from sshd's configuration at daemon-reload. A restart does not end open sessions (KillMode=process)
sshd reads its configuration again:
  cmd.run:
    {%- if ssh.service.endswith('.socket') %}
    - name: sshd -t && systemctl daemon-reload && systemctl restart ssh.socket ssh.service
    {%- else %}
    - name: sshd -t && systemctl reload-or-restart {{ ssh.service }}
    {%- endif %}
    - onlyif: systemctl --quiet is-active {{ ssh.service }}
    - onchanges:
      - file: ssh accepts keys only
