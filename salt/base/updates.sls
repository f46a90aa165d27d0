{% set updates = pillar.base.updates %}

# apt reads the package's own 50unattended-upgrades first and appends to lists, so this file clears them first
only security updates are installed automatically:
  file.managed:
    - name: /etc/apt/apt.conf.d/99vault-cube-updates
    - user: root
    - group: root
    - mode: '0644'
    - contents: |
        // written by salt/base/updates.sls
        #clear Unattended-Upgrade::Origins-Pattern;
        #clear Unattended-Upgrade::Allowed-Origins;
        #clear Unattended-Upgrade::Package-Blacklist;
        Unattended-Upgrade::Origins-Pattern {
        {%- for origin in updates.origins %}
          "{{ origin }}";
        {%- endfor %}
        };
        Unattended-Upgrade::Package-Blacklist {
        {%- for name in updates.never %}
          "{{ name }}";
        {%- endfor %}
        };
        Unattended-Upgrade::Automatic-Reboot "false";
        Unattended-Upgrade::Remove-Unused-Kernel-Packages "false";

security updates are installed daily:
  file.managed:
    - name: /etc/apt/apt.conf.d/99vault-cube-periodic
    - user: root
    - group: root
    - mode: '0644'
    - contents: |
        // written by salt/base/updates.sls
        APT::Periodic::Update-Package-Lists "1";
        APT::Periodic::Unattended-Upgrade "1";
