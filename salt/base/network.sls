# The first file that matches a port wins: 70- sorts before the distribution's 80-*, and after files such as 10-*, which
# the box's owner or netplan writes
every wired port uses DHCP:
  file.managed:
    - name: /etc/systemd/network/70-vault-cube.network
    - user: root
    - group: root
    - mode: '0644'
    - contents: |
        # written by salt/base/network.sls
        [Match]
        Type=ether
        Kind=!*

        [Network]
        DHCP=yes
        IPv6AcceptRA=yes

        [DHCPv4]
        UseDomains=yes

a box boots without waiting for every port:
  file.managed:
    - name: /etc/systemd/system/systemd-networkd-wait-online.service.d/any.conf
    - user: root
    - group: root
    - mode: '0644'
    - makedirs: True
    - contents: |
        # written by salt/base/network.sls
        [Service]
        ExecStart=
        # an unplugged cable is not an error
        ExecStart=-/lib/systemd/systemd-networkd-wait-online --any --timeout=30

names are resolved by systemd:
  file.symlink:
    - name: /etc/resolv.conf
    - target: ../run/systemd/resolve/stub-resolv.conf
    - force: True

# The last file wins: zz- sorts after Debian's 00-disable-mdns.conf
names are resolved without strangers of the local network:
  file.managed:
    - name: /etc/systemd/resolved.conf.d/zz-vault-cube.conf
    - user: root
    - group: root
    - mode: '0644'
    - makedirs: True
    - contents: |
        # written by salt/base/network.sls
        [Resolve]
        LLMNR={{ 'yes' if pillar.base.resolver.llmnr else 'no' }}
        MulticastDNS={{ 'yes' if pillar.base.resolver.multicast_dns else 'no' }}

the resolver reads its settings again:
  cmd.run:
    - name: systemctl restart systemd-resolved.service
    - onlyif: test -d /run/systemd/system && systemctl --quiet is-active systemd-resolved.service
    - onchanges:
      - file: names are resolved without strangers of the local network

the box's name:
  file.managed:
    - name: /etc/hostname
    - user: root
    - group: root
    - mode: '0644'
    - contents: {{ pillar.base.hostname | json }}

the box takes its name at once when it runs:
  cmd.run:
    - name: hostname --file /etc/hostname
    - onlyif: test -d /run/systemd/system
    - onchanges:
      - file: the box's name

the box resolves its own name:
  shared.hosts:
    - name: /etc/hosts
    - user: root
    - group: root
    - mode: '0644'
    - entries:
      - {address: 127.0.0.1, names: [localhost]}
      - {address: 127.0.1.1, names: {{ [pillar.base.hostname] | json }}}
      - {address: '::1', names: [localhost, ip6-localhost, ip6-loopback]}
