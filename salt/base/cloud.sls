# cloud-init reads ssh keys and other user data from a CIDATA stick, disk or partition. Everything that a state manages is
# switched off in it. Files are read in byte order and the last one wins: Ubuntu's package writes 90_dpkg.cfg, its
# installers write 99-installer.cfg, curtin-*.cfg and subiquity-*.cfg
cloud-init looks for a CIDATA medium and nowhere else:
  file.managed:
    - name: /etc/cloud/cloud.cfg.d/zz-vault-cube.cfg
    - mode: '0644'
    - contents: |
        # written by salt/base/cloud.sls
        datasource_list: [NoCloud, None]
        network: {config: disabled}
        preserve_hostname: true
        manage_etc_hosts: false
        apt: {preserve_sources_list: true}
        ssh_deletekeys: false
        ssh_genkeytypes: []
        disable_root: true
        ssh_pwauth: false
        growpart: {mode: 'off'}
        resize_rootfs: false
        system_info:
          default_user:
            name: {{ pillar.base.users | first }}
            lock_passwd: true
            no_create_home: true
            sudo: null   # salt/base/users.sls writes /etc/sudoers.d/99-…
        users: [default]
    - require:
      - sls: base.packages
