{% from 'base/paths.jinja' import checkout %}

a box applies its own states:
  file.managed:
    - name: /etc/salt/minion
    - mode: '0644'
    - makedirs: True
    - contents: |
        # written by salt/base/salt.sls: masterless, uses the box's copy of the checkout
        include: {{ checkout }}/conf/common.conf
        vault_cube: {target: {{ pillar.target.name | json }}, checkout: {{ checkout }}, seed: /var/lib/vault-cube/seed.json}
        file_roots: {base: [{{ checkout }}/salt]}
        pillar_roots: {base: [{{ checkout }}/pillar]}
        module_dirs: [{{ checkout }}/_modules]
        states_dirs: [{{ checkout }}/_states]
        grains_dirs: [{{ checkout }}/_grains]
        pillar_dirs: [{{ checkout }}/_pillar]
        beacons_dirs: [{{ checkout }}/_beacons]
