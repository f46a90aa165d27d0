# Debian 13 with an NVIDIA GPU: Debian's own non-free driver, its modules built for the image's kernel by DKMS.
target:
  name: debian-13-nvidia
  os: Debian
  release: '13'
  codename: trixie
  architecture: amd64
  python: '3.13'
  glibc: '2.41'
  accelerator: nvidia

archive:
  wheel_index: null
  extra_wheel_indexes: []
  sources:
    - archive: debian
      mirror: http://ftp.debian.org/debian
      snapshot: https://snapshot.debian.org/archive/debian/{date}
      suites: [trixie, trixie-updates]
      components: [main, contrib, non-free, non-free-firmware]
      keyring: /usr/share/keyrings/debian-archive-keyring.gpg
    - archive: debian-security
      mirror: http://security.debian.org/debian-security
      snapshot: https://snapshot.debian.org/archive/debian-security/{date}
      suites: [trixie-security]
      components: [main, contrib, non-free, non-free-firmware]
      keyring: /usr/share/keyrings/debian-archive-keyring.gpg

base:
  # the cloud kernel is for virtual machines; a GPU sits in a real one
  kernel: {package: linux-image-amd64}
  system_groups: {clock: 611}
  system_users:
    dhcpcd: {uid: 612, group: nogroup, home: /usr/lib/dhcpcd}
  ssh:
    # OpenSSH 9.9 and later know ML-KEM
    key_exchange: [mlkem768x25519-sha256, sntrup761x25519-sha512@openssh.com, curve25519-sha256, curve25519-sha256@libssh.org]
  # here docker.io is the engine alone, and docker-cli the command
  packages:
    - linux-image-amd64
    - initramfs-tools
    - zstd
    - systemd-sysv
    - systemd-repart   # since systemd 256 a package of its own: without it the root does not grow
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

driver:
  # 550 is the branch that Debian 13 carries: Turing to Ada and Hopper, not Blackwell
  packages:
    - linux-headers-amd64
    - nvidia-open-kernel-dkms
    - nvidia-smi
    - libcuda1
    - libnvidia-cfg1
    - nvidia-persistenced
    - nvidia-modprobe
  provider: debian
  branch: '550'
  modules: open
  generation: ada
  held: [linux-image-amd64, linux-headers-amd64, nvidia-open-kernel-dkms, nvidia-smi, libcuda1, nvidia-persistenced]
  # TensorFlow's own libraries: CUDA 12, which every driver from 525 on runs
  cuda: {toolkit: '12.9', cudnn: '9.28'}
  persistence: true
  load: [nvidia, nvidia_uvm]
  blocked: [nouveau, nova_core]
  gates: {gpus: 1, memory_mib: 1, pcie_generation: 4, pcie_width: 16, idle_celsius: 60}

frameworks:
  environments:
    # today's PyTorch and vLLM are built for CUDA 13, which driver 550 does not run
    tensorflow:
      requirements: ['tensorflow[and-cuda]==2.21.0']
      overrides: []
      excluded: []
    # a viewer under the GPL: a program of its own, which nothing here imports
    nvitop: {requirements: [nvitop==1.7.2], overrides: [], excluded: []}
  checks: {tensorflow: tensorflow}
  commands:
    python-tensorflow: [tensorflow, python]
    nvitop: [nvitop, nvitop]
  gates: {gpus: 1}

validation:
  packages: [htop, nvtop, smartmontools, prometheus-node-exporter]
