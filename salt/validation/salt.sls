{% set checkout = pillar.validation.checkout %}

Salt on the box is masterless, from its own checkout:
  file.managed:
    - name: /etc/salt/minion
    - makedirs: True
    - mode: '0644'
    - contents: |
        # written by salt/validation/salt.sls
        include: {{ checkout }}/conf/common.conf
        vault_cube:
          target: {{ pillar.target.name }}
          checkout: {{ checkout }}
        file_roots: {base: [{{ checkout }}/salt]}
        pillar_roots: {base: [{{ checkout }}/pillar]}
        module_dirs: [{{ checkout }}/_modules]
        states_dirs: [{{ checkout }}/_states]
        grains_dirs: [{{ checkout }}/_grains]
        pillar_dirs: [{{ checkout }}/_pillar]

salt-call is a command:
  file.symlink:
    - name: /usr/local/bin/salt-call
    - target: /opt/vault-cube/salt/bin/salt-call
