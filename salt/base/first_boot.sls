{% from 'base/sandbox.jinja' import sandbox with context %}

# /etc/fstab also has the mounts of the box's owner and of cloud-init.
# Settings for the first boot, when a box grows its root and makes its own keys. Nothing here runs during a build.
the root file system is found by its label and grows:
  shared.block:
    - name: /etc/fstab
    - by: salt/base/first_boot.sls
    - user: root
    - group: root
    - mode: '0644'
    - lines:
      - LABEL=root / ext4 defaults,errors=remount-ro,x-systemd.growfs 0 1
      - LABEL=ESP /efi vfat umask=0077,nofail,x-systemd.automount,x-systemd.idle-timeout=60 0 0

# Both labels are on every disk that was written from an image. The links in /dev/disk lead to the disk that was started
labels and ids lead to the disk that was started:
  file.managed:
    - name: /etc/udev/rules.d/99-vault-cube-disks.rules
    - user: root
    - group: root
    - mode: '0644'
    - contents:
      - '# written by salt/base/first_boot.sls'
      - >-
        SUBSYSTEM=="block", ENV{DEVTYPE}=="partition",
        PROGRAM=="/bin/sh -c '[ /sys/dev/block/$$(mountpoint -d /)/.. -ef /sys%p/.. ]'", OPTIONS+="link_priority=100"

# No mode: on a live box this is the mounted partition, whose mode comes from the mount options
the boot partition has a mount point:
  file.directory:
    - name: /efi
    - user: root
    - group: root

the root partition takes the whole disk:
  file.managed:
    - name: /etc/repart.d/50-root.conf
    - user: root
    - group: root
    - mode: '0644'
    - makedirs: True
    - contents: |
        # written by salt/base/first_boot.sls
        [Partition]
        Type=root-x86-64

# Ordered before ssh.service only. Before ssh.socket would be a cycle: basic.target waits for the socket, and this service waits
# for basic.target. The socket starts ssh.service with the first connection, and ssh.service waits for the keys
each box makes its own ssh host keys:
  file.managed:
    - name: /etc/systemd/system/ssh-host-keys.service
    - user: root
    - group: root
    - mode: '0644'
    - contents: |
        # written by salt/base/first_boot.sls
        [Unit]
        Description=Make this machine's ssh host keys
        # a seed may bring host keys
        After=cloud-init.service cloud-init-network.service
        Before=ssh.service
        ConditionPathExists=!/etc/ssh/ssh_host_ed25519_key

        [Service]
        Type=oneshot
        RemainAfterExit=yes
        ExecStart=/usr/bin/ssh-keygen -A
        PrivateNetwork=yes
        ProtectHome=yes
        ProtectProc=invisible
        MemoryDenyWriteExecute=yes
        ReadWritePaths=/etc/ssh
        {{ sandbox() | indent(8) }}

        [Install]
        WantedBy=multi-user.target

ssh host keys are made at first boot:
  unit.enabled:
    - name: ssh-host-keys.service
    - require:
      - file: each box makes its own ssh host keys
