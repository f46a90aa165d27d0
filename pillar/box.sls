# Values for every box, whatever its target. Override them in local.sls, which git ignores.

image:
  name: vault-cube-demo-box
  version: 1.0.0
  formats: [qcow2, raw.zst]
  keep: 3
  cache_gib: 40
  # archive name: mirror that the builder uses. An archive not listed here comes from the mirror that this machine's apt uses, or
  # else from the source's mirror
  mirrors: {}
  # keys that sign the distributions' archives. The builder reads them from locks/keyrings/, the box from its own packages
  keyrings:
    /usr/share/keyrings/debian-archive-keyring.gpg:
      - B8B80B5B623EAB6AD8775C45B7C5D7D6350947F8   # Debian Archive Automatic Signing Key (12/bookworm)
      - 05AB90340C0C5E797F44A8C8254CF3B5AEC0A8F0   # Debian Security Archive Automatic Signing Key (12/bookworm)
      - 4D64FEC119C2029067D6E791F8D2585B8783D481   # Debian Stable Release Key (12/bookworm)
      - 04B54C3CDCA79751B16BC6B5225629DF75B188BD   # Debian Archive Automatic Signing Key (13/trixie)
      - 5E04A1E3223A19A20706E20F9904613D4CCE68C6   # Debian Security Archive Automatic Signing Key (13/trixie)
      - 41587F7DB8C774BCCF131416762F67A0B2C39DE4   # Debian Stable Release Key (13/trixie)
    /usr/share/keyrings/ubuntu-archive-keyring.gpg:
      - F6ECB3762474EDA9D21B7022871920D1991BC93C   # Ubuntu Archive Automatic Signing Key (2018)
  root_packages: [python3, python3-venv, ca-certificates]
  salt:
    requirements: [salt==3008.3, nvidia-ml-py==13.615.71, pydantic==2.14.3, pygal==3.1.3, rich==15.0.0, uv==0.13.9]
    overrides: []
    # timelib is distributed as C source only, and Salt needs it for a single Jinja filter
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
  # image.scan: OpenSCAP's content with the CIS profiles, and Lynis, from Debian's unstable release
  scanners:
    archive: debian
    date: 20261129T000000Z
    packages:
      ssg-debian:
        path: pool/main/s/scap-security-guide/ssg-debian_0.1.82-1_all.deb
        sha256: cfde145916f1f37ec96c0fe2a9ea5f44a2db0ee6f0a2dacfcf86534c0977755a
      lynis:
        path: pool/main/l/lynis/lynis_3.1.7-1_all.deb
        sha256: 05c4390d8ff521773f6f9f4ae1813dc04f6cc2969ba35399086004062b69e6b9
  disk:
    esp_mib: 256
    spare_mib: 512
    disk_uuid: 6f1d3c52-98a7-4c0e-8f57-2f9f3e1b7a01
    esp_uuid: 6f1d3c52-98a7-4c0e-8f57-2f9f3e1b7a02
    root_uuid: 6f1d3c52-98a7-4c0e-8f57-2f9f3e1b7a03
    filesystem_uuid: 6f1d3c52-98a7-4c0e-8f57-2f9f3e1b7a04
    hash_seed: 6f1d3c52-98a7-4c0e-8f57-2f9f3e1b7a05
    kernel_cmdline: console=tty0 console=ttyS0,115200

base:
  hostname: vault-cube
  timezone: Etc/UTC
  locale: C.UTF-8
  # Created before any package is installed, so that ids do not depend on the order of packages. No package assigns ids from 600 up
  system_groups:
    docker: 995
    systemd-journal: 601
    systemd-network: 602
    systemd-resolve: 603
    systemd-timesync: 604
    messagebus: 605
    input: 606
    sgx: 607
    kvm: 608
    render: 609
    _ssh: 610
    ssh-login: 613
    sugroup: 614
  system_users:
    systemd-network: {uid: 602, group: systemd-network, home: /}
    systemd-resolve: {uid: 603, group: systemd-resolve, home: /}
    systemd-timesync: {uid: 604, group: systemd-timesync, home: /}
    messagebus: {uid: 605, group: messagebus, home: /nonexistent}
    sshd: {uid: 610, group: nogroup, home: /run/sshd}
  users:
    vaultadmin:
      uid: 1000
      gid: 1000
      groups: [sudo, docker]
      shell: /bin/bash
      ssh_keys: []   # the published image contains no key: cloud-init adds keys at first boot
  ssh:
    port: 22
    service: ssh.service
    group: ssh-login
    max_auth_tries: 3
    forward_ports: []
    forward_sockets: false
    forward_agent: false
    # names of a system, such as its release, do not belong here (CIS 1.6.2, 1.6.3)
    banner: Authorised access only. Use of this system is logged and monitored, and records may be given to its owner.
    host_key_algorithms: [ssh-ed25519, rsa-sha2-512, rsa-sha2-256]
    key_exchange: [sntrup761x25519-sha512@openssh.com, curve25519-sha256, curve25519-sha256@libssh.org]
    ciphers: [chacha20-poly1305@openssh.com, aes256-gcm@openssh.com, aes128-gcm@openssh.com]
    macs: [hmac-sha2-512-etm@openssh.com, hmac-sha2-256-etm@openssh.com]
    # Further keywords of sshd_config(5). null leaves sshd's default. CIS, here and below: rules of the CIS Debian Linux 12 Benchmark
    # 1.1.0; docs/decisions/hardening.md lists those that the box does not follow
    settings:
      MaxSessions: '10'               # CIS 5.1.17: channels of one connection
      MaxStartups: '10:30:60'         # CIS 5.1.18: limits connections that have not logged in
      GSSAPIAuthentication: 'no'      # CIS 5.1.9: no Kerberos here; less code before login
      HostbasedAuthentication: 'no'   # CIS 5.1.10: another machine's word is no login
      IgnoreRhosts: 'yes'             # CIS 5.1.11
      # ClientAliveInterval ends dead sessions, by encrypted messages; those of TCP can be forged (Lynis SSH-7408)
      TCPKeepAlive: 'no'
      PermitUserRC: 'no'              # a file in a home must not run at each login
      # CIS 5.1.14, Mozilla's modern profile: which key opened or failed to open a session
      LogLevel: VERBOSE
      # the same limit as for keys in this pillar; sshd's default is 1024 (NIST SP 800-131A: at least 2048)
      RequiredRSASize: '2048'
  firewall:
    allow_tcp: [22]
    # ports inside of containers; those that are not listed stay closed for other machines, wherever Docker publishes them
    container_tcp: []
  fail2ban: {failures: 5, within_s: 600, ban_s: 600}
  docker:
    log_size_mb: 100
    log_files: 3
    publish_address: 127.0.0.1
    # CIS Docker Benchmark 1.6.0, 2.2: on the default network, containers cannot reach each other. Networks of compose still allow it
    icc: false
    # one root process less per published port; the kernel forwards (CIS Docker Benchmark 1.6.0, 2.16)
    userland_proxy: false
    # CIS Docker Benchmark 1.6.0, 2.8. `docker run --ulimit` overrides them. Loaders of training data keep many files open
    default_ulimits: {nofile: {soft: 65536, hard: 524288}, core: {soft: 0, hard: 0}}
    # containerd's interface for Kubernetes, which listens on a TCP port of loopback. Docker does not use it
    cri: false
  # Names of the local network, answered by anybody on it (port 5355 and 5353, on all addresses). DNS and /etc/hosts remain
  resolver: {llmnr: false, multicast_dns: false}
  logs: {journal_mb: 1024, journal_days: 90}
  updates:
    origins: ['origin=${distro_id},codename=${distro_codename}-security,label=Debian-Security']
    never: ['linux-', 'nvidia', 'libnvidia', 'cuda', 'libcuda', 'libcudnn', 'docker', 'containerd', 'runc']
  kernel:
    package: linux-image-cloud-amd64
    modules: []
    # Modules that cannot be loaded. CIS 3.2.1 to 3.2.4: network protocols that the box does not speak, each with a history of
    # exploits (atm and can: CIS Debian Linux 13). CIS 1.1.1.1 to 1.1.1.8: file systems of other machines. firewire-core gives a
    # device access to the memory
    blocked: [atm, can, dccp, tipc, rds, sctp, cramfs, freevxfs, hfs, hfsplus, jffs2, udf, firewire-core]
    # null leaves the kernel's value. KSPP: recommended settings of the Kernel Self-Protection Project
    sysctl:
      kernel.randomize_va_space: '2'                      # CIS 1.5.1
      # CIS 1.5.2: a process may trace only its children. Use `sudo py-spy` and `sudo gdb -p`. PyTorch shares CUDA memory with
      # expandable_segments between processes only with 0
      kernel.yama.ptrace_scope: '1'
      fs.suid_dumpable: '0'                               # CIS 1.5.3: no core files of setuid programs
      kernel.dmesg_restrict: '1'                          # KSPP: the kernel's log has addresses
      kernel.kptr_restrict: '2'                           # KSPP: no addresses of the kernel, for root neither
      kernel.kexec_load_disabled: '1'                     # KSPP: the box boots its own kernel only
      kernel.unprivileged_bpf_disabled: '1'               # KSPP
      net.core.bpf_jit_harden: '2'                        # KSPP
      dev.tty.ldisc_autoload: '0'                         # KSPP
      kernel.sysrq: '4'                                   # KSPP: only the secure attention key; systemd's default is 438
      # KSPP: an exploit that crashes the kernel again and again is stopped. No kernel.warn_limit: drivers print harmless warnings,
      # and a panic would end days of training
      kernel.oops_limit: '100'
      vm.mmap_rnd_bits: '32'                              # KSPP
      fs.protected_symlinks: '1'                          # KSPP
      fs.protected_hardlinks: '1'                         # KSPP
      fs.protected_fifos: '2'                             # KSPP
      fs.protected_regular: '2'                           # KSPP
      net.ipv4.tcp_syncookies: '1'                        # CIS 3.3.10
      net.ipv4.icmp_echo_ignore_broadcasts: '1'           # CIS 3.3.4
      net.ipv4.icmp_ignore_bogus_error_responses: '1'     # CIS 3.3.3
      # CIS 3.3.7 asks for 1 (strict). With several ports or Docker's networks, replies may take another way: 2 (loose)
      net.ipv4.conf.all.rp_filter: '2'
      net.ipv4.conf.default.rp_filter: '2'
      # CIS 3.3.2, 3.3.5, 3.3.6: the box is no router for others, and takes no routes from strangers
      net.ipv4.conf.all.send_redirects: '0'
      net.ipv4.conf.default.send_redirects: '0'
      net.ipv4.conf.all.accept_redirects: '0'
      net.ipv4.conf.default.accept_redirects: '0'
      net.ipv4.conf.all.secure_redirects: '0'
      net.ipv4.conf.default.secure_redirects: '0'
      net.ipv6.conf.all.accept_redirects: '0'
      net.ipv6.conf.default.accept_redirects: '0'
      # CIS 3.3.8
      net.ipv4.conf.all.accept_source_route: '0'
      net.ipv4.conf.default.accept_source_route: '0'
      net.ipv6.conf.all.accept_source_route: '0'
      net.ipv6.conf.default.accept_source_route: '0'
      # CIS 3.3.9
      net.ipv4.conf.all.log_martians: '1'
      net.ipv4.conf.default.log_martians: '1'
      # CIS 3.3.11: systemd-networkd handles router advertisements itself (IPv6AcceptRA=yes)
      net.ipv6.conf.all.accept_ra: '0'
      net.ipv6.conf.default.accept_ra: '0'
  # Settings that belong to no other section
  hardening:
    # CIS 5.3.3.4.1: an account whose password is emptied must not be open
    nullok: false
    # CIS 1.5.3: a core file has the memory of a process, such as keys and prompts
    core_dumps: false
    # CIS 5.4.1.4: for passwords that an owner sets; the same as PAM's
    encrypt_method: YESCRYPT
    # for a program that chooses SHA-512 itself, such as chpasswd -c: a hash then takes about as long as one of yescrypt, and not
    # a tenth: 39 and 28 ms, and 2.5 ms with 5,000 rounds, on one core of an AMD EPYC
    sha_rounds: 100000
    # CIS 5.4.1.2, for new accounts: nobody gets back to an old password by changing it many times in a row
    pass_min_days: 1
    # null: Debian's 022. CIS 5.4.3.3 asks for 027, but sudo takes the umask of the session: models and environments that are
    # installed with it would be unreadable for vLLM and other users. Homes are closed by their own mode
    umask: null
    # CIS 7.2.9 and 7.2.10
    home_mode: '0750'
    dot_file_mode: '0640'
    # CIS 5.2.7: only members of this group, which has none, may use su. sudo is the way to another account
    su_group: sugroup
    # CIS 5.2.3: what sudo ran, beside the journal
    sudo_log: /var/log/sudo.log
    # CIS 1.6.2, 1.6.3: the text of base:ssh:banner on consoles, instead of the release's name
    login_banner: true
    # CIS 1.1.2.1.1 to 1.1.2.1.3, 1.1.2.2.2, 1.1.2.2.3. Options of tmpfs; null: as the distribution has it. Not noexec on /tmp (CIS
    # 1.1.2.1.4), because pip, Triton and Ray run files there, and not on /dev/shm (CIS 1.1.2.2.4), where libffi may need it
    tmpfs: {/tmp: 'nosuid,nodev,mode=1777,size=50%', /dev/shm: 'nosuid,nodev'}
    # Programs that lose setuid or setgid: for passwords, which nobody has, and for host-based logins, which sshd refuses
    no_setuid: [/usr/bin/chfn, /usr/bin/chsh, /usr/bin/gpasswd, /usr/bin/newgrp, /usr/bin/chage, /usr/bin/expiry,
                /usr/lib/openssh/ssh-keysign]
    # systemd's sandbox for the units that the states write (salt/base/sandbox.jinja)
    sandbox: true
  units: [ssh.service, systemd-networkd.service, systemd-resolved.service, systemd-timesyncd.service, ufw.service,
          fail2ban.service, docker.service, containerd.service, apparmor.service, unattended-upgrades.service]
  units_off: []
  supplies: /var/lib/vault-cube/supplies   # a folder of a stick is mounted or copied here
  packages:
    - linux-image-cloud-amd64
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
  packages: []
  provider: none
  branch: null
  modules: null
  generation: null
  held: []
  repositories: []
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
  environments: {}   # set per target, because they depend on its Python and its accelerator
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
    # add an address or network if arguments name a server elsewhere; without base:hardening:sandbox there is no limit
    reach: [localhost]
    settings:
      VLLM_NO_USAGE_STATS: '1'
      DO_NOT_TRACK: '1'
      HF_HUB_OFFLINE: '1'
      # off: nvcc would compile FlashInfer's sampler when the service starts, and nvcc is not on the service's PATH
      VLLM_USE_FLASHINFER_SAMPLER: '0'
  gates: {gpus: 0, import_s: 120}

validation:
  packages: [htop, smartmontools, prometheus-node-exporter]
  manifest: /etc/vault-cube/image.json
  monitoring:
    user: prometheus   # the packages' account, created with a fixed id before they are installed
    uid: 971
    # to scrape from another machine, set an address of the box here, and add the port to base:firewall:allow_tcp
    address: 127.0.0.1
    port: 9100
    textfiles: /var/lib/prometheus/node-exporter
    files: /etc/vault-cube/monitoring
    gpus_every_s: 15
    disks_every_s: 900
    beacon_every_s: 15
    # image: run NVIDIA's exporter as a container, beside ours; metrics that both have then come from NVIDIA's
    dcgm: {image: null, port: 9400}
    # a Prometheus on the box itself; if enabled, add prometheus to validation:packages
    prometheus: {enabled: false, port: 9090, every_s: 15, retention_days: 30, alertmanagers: []}
    alerts:
      # use 85 and 90 for cards that are known to run hotter
      gpu_warm: {above: 75, minutes: 5}
      gpu_hot: {above: 80, minutes: 1}
      gpu_memory: {above: 0.9, minutes: 5}
      gpu_throttled: {above: 0, minutes: 1}
      gpu_power: {above: 580, minutes: 1}
      box_power: {above: 2500, minutes: 1}
      disk_filling: {above: 0.8, minutes: 10}
      disk_full: {above: 0.9, minutes: 5}
      memory: {above: 0.9, minutes: 5}
      nvme_hot: {above: 70, minutes: 5}
      nvme_worn: {above: 0.8, minutes: 15}
      xid_minutes: 60
      down_minutes: 2
      stale_minutes: 5
      drift_hours: 50
  drift:
    every: daily
    full_every: weekly
    # public ssh keys of those who sign updates of the box's checkout
    signers: []
    # 68 and 546: the DHCP clients
    listen: [udp 68, udp 546]
    # Paths that may differ from the image. `*` matches within a name, `/**` everything below a folder. Accounts, packages,
    # ssh keys, byte code and dpkg's database are not listed: they are compared in their own way
    expected:
      /etc/machine-id: made at first boot
      /etc/ssh/ssh_host_*_key: made at first boot
      /etc/ssh/ssh_host_*_key.pub: made at first boot
      /etc/hostname: set by the seed
      /etc/hosts: names of the seed and of the owner, listed as kept
      /etc/timezone: set by the seed
      /etc/localtime: set by the seed
      /etc/adjtime: written by hwclock
      /etc/resolv.conf: link that systemd-resolved or cloud-init sets
      /etc/.pwd.lock: lock of the account tools
      /etc/.updated: time of the last run of systemd-update-done
      /var/.updated: time of the last run of systemd-update-done
      /etc/passwd-: backup of the account tools
      /etc/group-: backup of the account tools
      /etc/shadow-: backup of the account tools
      /etc/gshadow-: backup of the account tools
      /etc/subuid-: backup of the account tools
      /etc/subgid-: backup of the account tools
      /etc/netplan/50-cloud-init.yaml: network of the seed
      /etc/sudoers.d/90-cloud-init-users: rights of the seed's users
      /etc/docker/key.json: identity of Docker's engine
      /etc/salt/minion_id: name that the fleet's master knows the box by
      /etc/salt/pki/**: keys of the fleet's master and of this box
      /etc/salt/fleet: configuration of the fleet's minion; the states compare it
      /etc/salt/fleet/minion: configuration of the fleet's minion; the states compare it
      /etc/salt/minion.d/_schedule.conf: written by the minion
      /home/*: home of an account
      /home/*/**: data of an account; its keys are compared
      /opt/containerd: folder that containerd makes when it starts
      /opt/containerd/bin: folder that containerd makes when it starts
      /opt/containerd/lib: folder that containerd makes when it starts
      /root/.ssh: keys are compared
      /root/.cache: cache
      /root/.cache/**: cache
      /root/.bash_history: history of the shell
      /root/.lesshst: history of less
      /root/snap/**: data
      /lost+found: of the file system
      /srv/**: data
      /mnt/**: mounts of the owner
      /media/**: mounts of the owner
      /tmp/**: temporary
      /run/**: runtime
      /dev/**: devices
      /var/tmp/**: temporary
      /var/log/**: logs
      /var/cache/**: caches
      /var/backups/**: backups of dpkg's database
      /var/lib/apt/**: package lists; their signatures are verified
      /etc/systemd/network/10-cloud-init-*.network: written by cloud-init from the seed's network-config
      /opt/vault-cube/checkout/.release.json: record of a fleet's release
      /opt/vault-cube/previous: the release before this one, from a fleet's rollout
      /opt/vault-cube/previous/**: the release before this one
      /var/lib/cloud: folder of cloud-init
      /var/lib/cloud/data/**: state of cloud-init
      /var/lib/cloud/instance: state of cloud-init
      /var/lib/cloud/instances: state of cloud-init
      /var/lib/cloud/instances/**: state of cloud-init
      /var/lib/cloud/sem/**: state of cloud-init
      /var/lib/cloud/seed/**: the seed
      /var/lib/cloud/handlers/**: state of cloud-init
      /var/lib/cloud/scripts: folder of cloud-init; scripts in it are compared
      /var/lib/cloud/scripts/per-boot: folder of cloud-init
      /var/lib/cloud/scripts/per-instance: folder of cloud-init
      /var/lib/cloud/scripts/per-once: folder of cloud-init
      /var/lib/cloud/scripts/vendor: folder of cloud-init
      /var/lib/containerd/**: images and containers
      /var/lib/dbus/machine-id: link to the machine id
      /var/lib/dhcp/**: leases
      /var/lib/docker: images and containers
      /var/lib/docker/**: images and containers
      /var/lib/fail2ban/**: its database
      /var/lib/logrotate/**: times of the last rotation
      /var/lib/man-db/**: time of its last run
      /var/lib/polkit-1/**: state of polkit
      /var/lib/private/**: data of services
      /var/lib/prometheus/**: readings
      /var/lib/smartmontools/**: state of smartd
      /var/lib/sudo/**: who has seen the lecture
      /var/lib/systemd/**: state of systemd
      /var/lib/ubuntu-advantage/**: state of Ubuntu's update notices
      /var/lib/ucf/**: checksums of configuration files
      /var/lib/unattended-upgrades/**: state of the updates
      /var/lib/update-notifier/**: state of Ubuntu's update notices
      /var/lib/vault-cube: results, caches and records of this project
      /var/lib/vault-cube/**: results, caches and records of this project
      /var/lib/vllm/**: models and caches

gpu:
  # NVML answers in microseconds. Without persistence mode it initialises each card first, which takes seconds
  answer_s: 5
  model: null
  compute_mode: default
  mig: false
  health:
    window_s: 0.05
    load_s: 4
    # A card's own limits (nvidia-smi -q -d TEMPERATURE) apply if they are lower.
    # margin: cold cards that have none return 0 or less (gpud, components/accelerator/nvidia/temperature); an H200 slows down
    # at -2 and shuts down at -8 (nvidia-smi -q, T.Limit thresholds)
    celsius: {warning: 85, fault: 92, fan: 65, margin_from: 75, margin_fault: -5}
    # 1.0: a card under full load is always at its power cap, so this reason is normal
    throttle_share: {sw_power_cap: 1.0, board_limit: 1.0, reliability: 1.0, sync_boost: 1.0}
    ecc_corrected: 10
    pcie_replays: 100
    # faults of generation 5 links first show under load (github.com/vllm-project/vllm/issues/14628)
    pcie_replays_loaded: 10
    pcie_corrected: 100
    # DCGM, DcgmGPUHardwareLimits.h: DCGM_LIMIT_MAX_ROW_REMAP_UNCORRECTABLE
    remapped_rows: 512
    # NVIDIA, "Dynamic Page Retirement", RMA policy; DCGM_LIMIT_MAX_RETIRED_PAGES_SOFT_LIMIT
    retired_pages: {fault: 60, double_bit: 15}
    # NVML's reading is an average over one second (nvml.h, nvmlDeviceGetPowerUsage), so short peaks are not visible
    power_over: 0.1
    held_down_s: {thermal: 60, sw_thermal: 60, hw_thermal: 1, power_brake: 1}
    # three bridges of four links (github.com/Azure/azurehpc-health-checks/issues/162)
    nvlinks: {H100 NVL: 12, H100 PCIe: 12}
    xid_hours: 24
    held_mib: 1024
    # CHECK: REASON accepts the warnings of a check; to accept faults, or only some GPUs or XIDs:
    # pcie slot: {reason: the slot has 8 lanes, gpus: [3], faults: true, xids: []}
    accepted: {}
  reset:
    # `nvidia-smi --gpu-reset` refuses while these units run (github.com/NVIDIA/NVSentinel/issues/1690)
    stop: [vault-cube-gpus.timer, vault-cube-gpus.service, nvidia-dcgm.service, salt-minion.service, vault-cube-fleet.service,
           nvidia-persistenced.service]

benchmark:
  results: /var/lib/vault-cube/benchmarks
  suites: [matmul, copies, all_reduce, ddp, tensorflow, vllm]
  environments: {matmul: pytorch, copies: pytorch, all_reduce: pytorch, ddp: pytorch, tensorflow: tensorflow, vllm: vllm}
  cpu_workers: 2
  model: null
  serving: {requests_per_s: [1, 4, 16], tensor_parallel: [2, 4], concurrent: 256, start_s: 600}
  # several boxes train together (gpu.benchmark ddp boxes=2 rendezvous=ADDRESS): nothing listens at other times
  together: {port: 29400, wait_s: 300}
  full:
    rounds: 2
    repeats: 5
    seconds: 3
    steady_s: 20
    limits_s: {matmul: 1800, copies: 900, all_reduce: 600, ddp: 1800, tensorflow: 900, vllm: 3600}
  quick:
    rounds: 2
    repeats: 3
    seconds: 0.6
    steady_s: 3
    limits_s: {matmul: 600, copies: 300, all_reduce: 300, ddp: 480, tensorflow: 300, vllm: 1800}
  # gpu_memory_mib: a desktop's display server holds a few hundred MiB
  quiet: {gpu_utilisation: 0.05, gpu_memory_mib: 1024, load_per_core: 0.5, spread: 0.1}
  # The shares are ours: below what a healthy card reaches, above what one at 40 % of its speed does. One H200 reached: matmul 0.68
  # in a shape that was not searched, memory 0.89, host_copy 0.88, training 0.36, vllm_roofline 0.60
  # (benchmarks/results/2026-11-27-h200.md). Cards for PCIe slots reach less of their matmul figure, because their power is lower
  thresholds:
    nvidia:
      matmul: 0.5
      memory: 0.7
      host_copy: 0.65
      # processor and memory of the host have to serve all cards at once
      host_copy_together: 0.4
      all_reduce_nvlink: 0.6
      # without P2P between the cards, NCCL copies through the host's memory
      all_reduce_pcie: 0.2
      training: 0.2
      ddp_efficiency: 0.8
      utilisation: 0.9
      vllm_tokens_per_s: 10
      vllm_roofline: 0.4
      siblings: 0.9
    # null on a CPU, where two workers share caches and memory: these ratios are shown, but prove nothing about a box with GPUs
    cpu:
      matmul: null
      memory: null
      host_copy: null
      host_copy_together: null
      all_reduce_nvlink: null
      all_reduce_pcie: null
      training: null
      ddp_efficiency: null
      utilisation: null
      vllm_tokens_per_s: 10
      vllm_roofline: null
      siblings: null
  # NVIDIA's figures, dense (half of a figure "with sparsity"). A card that is not listed is not judged against a figure. Names are
  # complete: Laptop, Max-Q, D and Server Edition cards have other figures
  ceilings:
    - devices: [NVIDIA GeForce RTX 5090]
      bfloat16_tflops: 209.5
      memory_gb_s: 1792
      pcie: {generation: 5, width: 16}
      source: NVIDIA RTX Blackwell GPU Architecture, table of the GeForce RTX 5090 (float32 accumulation)
    - devices: [NVIDIA GeForce RTX 4090]
      bfloat16_tflops: 165.2
      memory_gb_s: 1008
      pcie: {generation: 4, width: 16}
      source: NVIDIA Ada GPU Architecture, table of the GeForce RTX 4090 (float32 accumulation)
    - devices: [NVIDIA RTX PRO 6000 Blackwell Workstation Edition]
      bfloat16_tflops: 503.8
      memory_gb_s: 1792
      pcie: {generation: 5, width: 16}
      source: NVIDIA RTX Blackwell PRO GPU Architecture, table of the RTX PRO 6000 Blackwell Workstation Edition
    - devices: [NVIDIA L40S]
      bfloat16_tflops: 362.05
      memory_gb_s: 864
      pcie: {generation: 4, width: 16}
      source: NVIDIA L40S datasheet
    - devices: [NVIDIA A100-SXM4-80GB]
      bfloat16_tflops: 312
      memory_gb_s: 2039
      pcie: {generation: 4, width: 16}
      nvlink_gb_s: 300
      source: NVIDIA A100 Tensor Core GPU datasheet, A100 80GB SXM (NVLink 600 GB/s in both directions)
    - devices: [NVIDIA A100 80GB PCIe]
      bfloat16_tflops: 312
      memory_gb_s: 1935
      pcie: {generation: 4, width: 16}
      source: NVIDIA A100 Tensor Core GPU datasheet, A100 80GB PCIe
    - devices: [NVIDIA A100-SXM4-40GB]
      bfloat16_tflops: 312
      memory_gb_s: 1555
      pcie: {generation: 4, width: 16}
      nvlink_gb_s: 300
      source: NVIDIA A100 Tensor Core GPU Architecture, table of the A100 (40 GB, SXM4)
    - devices: [NVIDIA A100-PCIE-40GB]
      bfloat16_tflops: 312
      memory_gb_s: 1555
      pcie: {generation: 4, width: 16}
      source: NVIDIA A100 Tensor Core GPU datasheet, A100 40GB PCIe
    - devices: [NVIDIA H100 80GB HBM3]
      bfloat16_tflops: 989.5
      memory_gb_s: 3350
      pcie: {generation: 5, width: 16}
      nvlink_gb_s: 450
      source: NVIDIA H100 Tensor Core GPU datasheet, SXM (1,979 TFLOP/s with sparsity; NVLink 900 GB/s in both directions)
    - devices: [NVIDIA H100 PCIe]
      bfloat16_tflops: 756.5
      memory_gb_s: 2000
      pcie: {generation: 5, width: 16}
      source: NVIDIA H100 Tensor Core GPU datasheet, PCIe (1,513 TFLOP/s with sparsity)
    - devices: [NVIDIA H100 NVL]
      bfloat16_tflops: 835.5
      memory_gb_s: 3900
      pcie: {generation: 5, width: 16}
      source: NVIDIA H100 Tensor Core GPU datasheet, NVL (1,671 TFLOP/s with sparsity); its NVLink joins two cards, not a box
    - devices: [NVIDIA H200]
      bfloat16_tflops: 989.5
      memory_gb_s: 4800
      pcie: {generation: 5, width: 16}
      nvlink_gb_s: 450
      source: NVIDIA H200 Tensor Core GPU datasheet, SXM (1,979 TFLOP/s with sparsity; NVLink 900 GB/s in both directions)
    - devices: [NVIDIA B200]
      bfloat16_tflops: 2250
      memory_gb_s: 8000
      pcie: {generation: 5, width: 16}
      nvlink_gb_s: 900
      source: NVIDIA Blackwell architecture brief, HGX B200 (4,500 TFLOP/s with sparsity; NVLink 1,800 GB/s in both directions)
  compare: {p: 0.01, least: 0.02}
  stress:
    sample_s: 1
    sync_s: 30
    memory: {nvidia: 0.9, cpu: 0.1}
    stop_celsius: 90
    # the driver's failures of a moment do not end a day's burn-in
    blind_s: 15
    unread_share: 0.01
    # a GPU in a burn-in is always at its power cap, which is not a cooling problem
    throttle_share: {sw_power_cap: 1.0}
    clock_drop: 0.05
    siblings: 0.9
    # an H200 at its power cap: 0.56 of the peak at 0.99 of its power limit (benchmarks/results/2026-11-27-h200.md)
    speed_share: 0.4
    clock_share: 0.4
    power_share: 0.5
    # as gpu:health:pcie_replays_loaded and pcie_corrected
    pcie_replays: 10
    pcie_corrected: 100
    silence_s: 120
    background_s: 600
    unit: vault-cube-stress.service

fleet:
  # docs/fleet.md: set master, master_key and, if base:hostname is not the box's own, id
  master: null
  master_key: null
  id: null
  publish_port: 4505
  request_port: 4506
  # a box that was cut off answers again after about idle_s + probes * interval_s; with Salt's defaults it took 207 s
  keepalive: {idle_s: 20, interval_s: 5, probes: 3}
  # remove entries to give the master less; an entry that _executors/fleet_gate.py does not list is refused all the same
  allow:
    - test.ping
    - grains.items
    - grains.item
    - grains.get
    - saltutil.running
    - saltutil.is_running
    - saltutil.find_job
    - saltutil.kill_job
    - gpu.detect
    - gpu.topology
    - gpu.health
    - gpu.validate
    - gpu.benchmark
    - layer.check
    - drift.report
    - state.apply
    - checkout.version
    - checkout.update
    - checkout.apply
    - checkout.accept
    - checkout.rollback
  # with a key here, a master that somebody else controls cannot install code: `make fleet-release SIGN_KEY=…`
  signers: []
  server:
    names: [localhost]
    port: 8443
    internal_port: 8444
    token_s: 3600
    logins_per_minute: 12
    body_kib: 16
    ca_days: 3650
    # browsers accept at most 398 days
    certificate_days: 397
    api_memory_mib: 1024
    answer_s: 20
    worker_threads: 5
    canaries: []
    batch: 5
    checks: [base, driver, runtime, frameworks, validation]
    # outside of the 2 to 4 % by which equal cards differ (benchmarks/results/), and of 3 deviations of the twins
    outlier_share: 0.08
    roles:
      viewer:
        boxes: [test.ping, grains.item, grains.items, grains.get, gpu.detect, gpu.topology, gpu.health, gpu.validate,
                              layer.check, drift.report, checkout.version]
        master: [fleet.status, fleet.inventory, fleet.drift, fleet.report]
      operator:
        boxes: [test.ping, grains.item, grains.items, grains.get, gpu.detect, gpu.topology, gpu.health, gpu.validate, layer.check,
                drift.report, checkout.version, gpu.benchmark, state.apply]
        master: [fleet.status, fleet.inventory, fleet.drift, fleet.report, fleet.rollout, fleet.rollback, fleet.repair,
                 fleet.benchmark]
      admin:
        boxes: [test.ping, grains.item, grains.items, grains.get, gpu.detect, gpu.topology, gpu.health, gpu.validate, layer.check,
                drift.report, checkout.version, gpu.benchmark, state.apply, saltutil.running, saltutil.find_job,
                saltutil.kill_job]
        master: [fleet.status, fleet.inventory, fleet.drift, fleet.report, fleet.rollout, fleet.rollback, fleet.repair,
                 fleet.benchmark, fleet.keys, fleet.fingerprint, fleet.accept, fleet.remove]
