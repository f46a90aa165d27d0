{% from 'base/paths.jinja' import checkout %}

a box applies its own states:
  file.managed:
    - name: /etc/salt/minion
    - user: root
    - group: root
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
        # below /run, so that a box whose disk is full or read-only can still be asked and repaired
        cachedir: /run/vault-cube/salt/cache
        extension_modules: /run/vault-cube/salt/cache/extmods
        pki_dir: /run/vault-cube/salt/pki
        sock_dir: /run/vault-cube/salt/sock
        log_file: /run/vault-cube/salt/log
