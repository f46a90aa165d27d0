# The production target, for the demo box with 4x RTX 5090.
target:
  name: ubuntu-24.04
  os: Ubuntu
  release: '24.04'
  codename: noble
  architecture: amd64
  python: '3.12'
  glibc: '2.39'
  accelerator: nvidia

archive:
  wheel_index: null
  extra_wheel_indexes: []
  sources:
    - archive: ubuntu
      mirror: http://archive.ubuntu.com/ubuntu
      snapshot: https://snapshot.ubuntu.com/ubuntu/{date}
      suites: [noble, noble-updates]
      components: [main, restricted, universe]
      keyring: /usr/share/keyrings/ubuntu-archive-keyring.gpg
    - archive: ubuntu
      mirror: http://security.ubuntu.com/ubuntu
      snapshot: https://snapshot.ubuntu.com/ubuntu/{date}
      suites: [noble-security]
      components: [main, restricted, universe]
      keyring: /usr/share/keyrings/ubuntu-archive-keyring.gpg

# source of the base packages' names: packages.ubuntu.com, suite noble
base:
  system_users:
    dhcpcd: {uid: 612, group: nogroup, home: /usr/lib/dhcpcd}
  ssh: {service: ssh.socket}   # the socket starts sshd with the first connection
  updates:
    origins: ['origin=Ubuntu,archive=${distro_codename}-security,label=Ubuntu']
  kernel: {package: linux-image-generic}
  units: [ssh.socket, systemd-networkd.service, systemd-resolved.service, systemd-timesyncd.service, ufw.service,
          fail2ban.service, docker.service, containerd.service, apparmor.service, unattended-upgrades.service]
  packages:
    - linux-image-generic
    - amd64-microcode
    - intel-microcode
    - initramfs-tools
    - e2fsprogs
    - zstd
    - systemd-sysv
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
  # prebuilt and signed by Canonical: no DKMS, no key to enrol under Secure Boot
  packages:
    - linux-modules-nvidia-580-open-generic
    - nvidia-headless-no-dkms-580-open
    - nvidia-utils-580
  provider: ubuntu
  branch: '580'
  modules: open
  generation: blackwell
  held: [linux-image-generic, linux-modules-nvidia-580-open-generic, nvidia-headless-no-dkms-580-open, nvidia-utils-580]
  cuda: {toolkit: '13.0', cudnn: '9.20'}
  persistence: true
  load: [nvidia, nvidia_uvm]
  blocked: [nouveau, nova_core]
  # 575 W is the 5090's own limit; four cards share a 3 kW supply. PCIe links were seen to drop with power management on
  power: {limit_w: 575, pcie_aspm: performance}
  gates: {gpus: 4, memory_mib: 32607, pcie_generation: 5, pcie_width: 16, idle_celsius: 60}

gpu:
  model: RTX 5090

runtime:
  # only the base package: CDI needs neither the runtime hook nor libnvidia-container
  packages: [nvidia-container-toolkit-base]
  provider: nvidia
  mode: cdi
  cgroup_driver: systemd
  repositories:
    - name: nvidia-container-toolkit
      uri: https://nvidia.github.io/libnvidia-container/stable/deb/amd64
      suite: /
      components: []
      keyring:
        url: https://nvidia.github.io/libnvidia-container/gpgkey
        sha256: null
        fingerprint: C95B321B61E88C1809C4F759DDCAE044F796ECB0
      pin:
        packages: [nvidia-container-toolkit*, libnvidia-container*]
        version: null
        origin: nvidia.github.io
  gates: {gpus: 4, together: 2}

frameworks:
  # On the box, Triton compiles a launcher for each kernel, which needs Python's headers; nvcc needs g++
  packages: [gcc, g++, python3-dev]
  environments:
    pytorch:
      requirements: [torch==2.13.0, torchvision==0.28.0, numpy]
      overrides: []
      excluded: []
    tensorflow:
      requirements: ['tensorflow[and-cuda]==2.21.0']
      overrides: []
      excluded: []
    vllm:
      # nvcc and CCCL must be of the same CUDA release as torch's runtime: others do not compile with its headers, and driver 580
      # cannot load their PTX. cuda-python is pinned because uv would otherwise choose a version older than the package
      # cuda-bindings, and both contain the same modules
      requirements: [vllm==0.32.0, torch==2.13.0, 'cuda-toolkit[nvcc,cccl]==13.0.3', cuda-python==13.0.3]
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
    replicas: 4
  gates: {gpus: 4}

validation:
  # no nvtop, because noble has it in multiverse; nvitop (layer frameworks) shows the same values
  packages: [htop, smartmontools, prometheus-node-exporter]
