a box applies its own states:
  file.managed:
    - name: /etc/salt/minion
    - mode: '0644'
    - makedirs: True
    - contents: |
        # written by salt/base/salt.sls: masterless, from the box's copy of the checkout
        include: /opt/vault-cube/checkout/conf/common.conf
        vault_cube: {target: {{ pillar.target.name }}, checkout: /opt/vault-cube/checkout}
        file_roots: {base: [/opt/vault-cube/checkout/salt]}
        pillar_roots: {base: [/opt/vault-cube/checkout/pillar]}
        module_dirs: [/opt/vault-cube/checkout/_modules]
        states_dirs: [/opt/vault-cube/checkout/_states]
        grains_dirs: [/opt/vault-cube/checkout/_grains]
        pillar_dirs: [/opt/vault-cube/checkout/_pillar]
        beacons_dirs: [/opt/vault-cube/checkout/_beacons]
