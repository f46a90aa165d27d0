# Debian 13 with an NVIDIA GPU: Debian's own non-free driver, with modules that DKMS builds for the image's kernel.
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
  # the cloud kernel lacks drivers for real hardware
  kernel: {package: linux-image-amd64}
  system_groups: {clock: 611}
  system_users:
    dhcpcd: {uid: 612, group: nogroup, home: /usr/lib/dhcpcd}
  ssh:
    # OpenSSH 9.9 and later support ML-KEM
    key_exchange: [mlkem768x25519-sha256, sntrup761x25519-sha512@openssh.com, curve25519-sha256, curve25519-sha256@libssh.org]
  # in Debian 13, docker.io contains only the engine; the docker command is in docker-cli
  packages:
    - linux-image-amd64
    # microcode and firmware for a workstation's processor and wired network cards
    - amd64-microcode
    - intel-microcode
    - firmware-bnx2x
    - firmware-intel-misc
    - firmware-misc-nonfree
    - firmware-realtek
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

driver:
  # 550 is Debian 13's branch. It does not support Blackwell, and on Hopper it cannot run TensorFlow (docs/frameworks.md)
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
  held: [linux-image-amd64, linux-headers-amd64, nvidia-open-kernel-dkms, nvidia-smi, libcuda1, libnvidia-cfg1,
         nvidia-persistenced, nvidia-modprobe]
  # the newest toolkit in an environment: TensorFlow has 12.9, PyTorch and vLLM have 12.8
  cuda: {toolkit: '12.9', cudnn: '9.28'}
  persistence: true
  load: [nvidia, nvidia_uvm]
  blocked: [nouveau, nova_core]
  gates: {gpus: 1, memory_mib: 1, pcie_generation: 4, pcie_width: 16, idle_celsius: 60}

runtime:
  # Debian does not package the NVIDIA Container Toolkit, but its Docker 26 reads CDI specifications
  provider: vault-cube
  mode: cdi
  cgroup_driver: systemd
  gates: {gpus: 1, together: 1}

frameworks:
  # On the box, Triton compiles a launcher for each kernel, which needs Python's headers; torch.compile needs g++
  packages: [gcc, g++, python3-dev]
  environments:
    # the last releases built for CUDA 12: PyTorch from 2.11 and vLLM from 0.20 on need CUDA 13, and therefore driver 580
    pytorch:
      requirements: [torch==2.10.0, torchvision==0.25.0, numpy]
      overrides: []
      excluded: []
    tensorflow:
      requirements: ['tensorflow[and-cuda]==2.21.0']
      overrides: []
      excluded: []
    vllm:
      # transformers: the newest version at the time vLLM 0.19.1 was released
      requirements: [vllm==0.19.1, torch==2.10.0, transformers==5.7.0]
      overrides: []
      excluded: []
    # a GPU viewer under the GPL: a separate program that nothing here imports
    nvitop: {requirements: [nvitop==1.7.2], overrides: [], excluded: []}
  checks: {pytorch: pytorch, tensorflow: tensorflow, vllm: vllm}
  commands:
    python-pytorch: [pytorch, python]
    torchrun: [pytorch, torchrun]
    python-tensorflow: [tensorflow, python]
    python-vllm: [vllm, python]
    vllm: [vllm, vllm]
    nvitop: [nvitop, nvitop]
  vllm:
    environment: vllm
  gates: {gpus: 1}

validation:
  packages: [htop, nvtop, smartmontools, prometheus-node-exporter]
