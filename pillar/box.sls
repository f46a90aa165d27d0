# What every box has, whatever its target. Override in local.sls, which git ignores.

image:
  name: vault-cube-demo-box
  version: 1.0.0
  formats: [qcow2, raw.zst]
  keep: 3
  cache_gib: 40
  # where the builder fetches an archive from, by its name; empty: what this machine's apt uses, else the source's mirror
  mirrors: {}
  root_packages: [python3, python3-venv, ca-certificates]
  salt:
    requirements: [salt==3008.3, nvidia-ml-py==13.615.71, pydantic==2.14.3, rich==15.0.0, uv==0.13.9]
    overrides: []
    # timelib is a C source archive that Salt needs for one Jinja filter only
    excluded: [timelib]
  tools:
    codename: trixie
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
    packages:
      - mmdebstrap
      - apt-utils
      - e2fsprogs
      - fdisk
      - dosfstools
      - mtools
      - systemd-ukify
      - systemd-boot-efi
      - qemu-utils
      - qemu-system-x86
      - ovmf
      - openssh-client
      - zstd
  disk:
    esp_mib: 256
    spare_mib: 512
    disk_uuid: 6f1d3c52-98a7-4c0e-8f57-2f9f3e1b7a01
    esp_uuid: 6f1d3c52-98a7-4c0e-8f57-2f9f3e1b7a02
    root_uuid: 6f1d3c52-98a7-4c0e-8f57-2f9f3e1b7a03
    filesystem_uuid: 6f1d3c52-98a7-4c0e-8f57-2f9f3e1b7a04
    hash_seed: 6f1d3c52-98a7-4c0e-8f57-2f9f3e1b7a05
    kernel_cmdline: console=tty0 console=ttyS0,115200

driver:
  packages: []
  provider: none
  branch: null
  modules: null
  generation: null
  held: []
  repositories: []
  fallbacks: []
  cuda: null
  persistence: false
  load: []
  blocked: []
  power: {limit_w: null, pcie_aspm: default}
  gates: {gpus: 0, memory_mib: 0, pcie_generation: 0, pcie_width: 0, idle_celsius: 60}

runtime:
  packages: []
  provider: none
  mode: null
  cgroup_driver: null
  repositories: []
  gates: {gpus: 0, together: 0}

frameworks:
  packages: []
  folder: /opt/vault-cube/envs
  environments: {}   # a target's own: they follow its Python and its accelerator
  checks: {}
  commands: {}
  kernels: []
  vllm:
    environment: null
    enabled: false
    user: vllm
    uid: 970
    models: /var/lib/vault-cube/models
    model: default
    host: 127.0.0.1
    port: 8000
    replicas: 1
    arguments: []
    settings:
      VLLM_NO_USAGE_STATS: '1'
      DO_NOT_TRACK: '1'
      HF_HUB_OFFLINE: '1'
  gates: {gpus: 0, import_s: 120}

validation:
  packages: [htop]
  checkout: /opt/vault-cube/checkout
  manifest: /etc/vault-cube/image.json
