# cloud-init reads ssh keys and other user data from a CIDATA stick, disk or partition. Only the listed modules run, so the box
# knows which keys of a seed have no effect; files/cloud/ reports them. Files are read in byte order and the last one wins:
# Ubuntu's package writes 90_dpkg.cfg, its installers write 99-installer.cfg, curtin-*.cfg and subiquity-*.cfg
{% set first = pillar.base.users | first %}
cloud-init looks for a CIDATA medium and nowhere else:
  file.managed:
    - name: /etc/cloud/cloud.cfg.d/zz-vault-cube.cfg
    - user: root
    - group: root
    - mode: '0644'
    - contents: |
        # written by salt/base/cloud.sls
        datasource_list: [NoCloud, None]
        # without a network-config in the seed, every port uses DHCP (salt/base/network.sls). cc_vault_cube_apply applies one
        network: {config: disabled}
        apt: {preserve_sources_list: true}
        ssh_deletekeys: false
        ssh_genkeytypes: [rsa, ecdsa, ed25519]
        disable_root: true
        system_info:
          network: {renderers: [netplan, networkd], activators: [netplan, networkd]}
          # a seed may give this user another name (`user: NAME`); the new account then has the same rights
          default_user:
            name: {{ first | json }}
            lock_passwd: true
            groups: {{ pillar.base.users[first].groups | json }}
            shell: {{ pillar.base.users[first].shell | json }}
            sudo: ['ALL=(ALL) NOPASSWD:ALL']
        users: [default]
        vault_cube: {group: {{ pillar.base.ssh.group | json }}, users: {{ pillar.base.users.keys() | list | json }}}
        cloud_init_modules: [seed_random, bootcmd, write_files, disk_setup, mounts, set_hostname, update_hostname,
                             update_etc_hosts, ca_certs, rsyslog, users_groups, vault_cube_apply, ssh]
        cloud_config_modules: [ssh_import_id, keyboard, apt_configure, ntp, runcmd]
        cloud_final_modules: [package_update_upgrade_install, write_files_deferred, scripts_vendor, scripts_per_once,
                              scripts_per_boot, scripts_per_instance, scripts_user, ssh_authkey_fingerprints,
                              keys_to_console, phone_home, vault_cube_report, final_message, power_state_change]

{% for module in ('apply', 'report') %}
cloud-init has the module vault_cube_{{ module }}:
  file.managed:
    - name: /usr/lib/python3/dist-packages/cloudinit/config/cc_vault_cube_{{ module }}.py
    - source: salt://base/files/cloud/cc_vault_cube_{{ module }}.py
    - user: root
    - group: root
    - mode: '0644'
{% endfor %}
