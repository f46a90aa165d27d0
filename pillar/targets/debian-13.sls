# A newer kernel and Python than debian-12; no GPU, no vendor repository.
target:
  name: debian-13
  os: Debian
  release: '13'
  codename: trixie
  architecture: amd64
  python: '3.13'
  glibc: '2.41'
  accelerator: cpu

archive:
  wheel_index: null
  # for PyTorch's CPU build; the lock has its hash, so any other index may serve it too
  extra_wheel_indexes: [https://download.pytorch.org/whl/cpu]
  sources:
    - archive: debian
      mirror: http://ftp.debian.org/debian
      snapshot: https://snapshot.debian.org/archive/debian/{date}
      suites: [trixie, trixie-updates]
      components: [main]
      keyring: /usr/share/keyrings/debian-archive-keyring.gpg
    - archive: debian-security
      mirror: http://security.debian.org/debian-security
      snapshot: https://snapshot.debian.org/archive/debian-security/{date}
      suites: [trixie-security]
      components: [main]
      keyring: /usr/share/keyrings/debian-archive-keyring.gpg

base:
  system_groups: {clock: 611}
  system_users:
    dhcpcd: {uid: 612, group: nogroup, home: /usr/lib/dhcpcd}
  ssh:
    # OpenSSH 9.9 and later support ML-KEM
    key_exchange: [mlkem768x25519-sha256, sntrup761x25519-sha512@openssh.com, curve25519-sha256, curve25519-sha256@libssh.org]
  # in Debian 13, docker.io contains only the engine; the docker command is in docker-cli
  packages:
    - linux-image-cloud-amd64
    - initramfs-tools
    - e2fsprogs
    - zstd
    - systemd-sysv
    - systemd-repart   # a separate package since systemd 256; without it the root does not grow
    - systemd-resolved
    - systemd-timesyncd
    - udev
    - dbus
    - libpam-systemd
    - kmod
    - openssh-server
    - sudo
    - ufw
    - iptables
    - fail2ban
    - python3-systemd
    - docker.io
    - docker-cli
    - apparmor
    - cloud-init
    - unattended-upgrades
    - logrotate
    - tzdata
    - iproute2
    - iputils-ping
    - curl
    - less
    - nano
    - tini

frameworks:
  environments:
    # If PyTorch's own index can be reached, add pytorch: {requirements: [torch==2.13.0+cpu, numpy], overrides: [], excluded: []}.
    # For Python 3.13 the general index has only the CUDA build, which is several GB and useless on a CPU
    tensorflow:
      requirements: [tensorflow-cpu==2.21.0]
      overrides: []
      excluded: []
  checks: {tensorflow: tensorflow}
  commands:
    python-tensorflow: [tensorflow, python]

validation:
  packages: [htop, nvtop, smartmontools, prometheus-node-exporter]
