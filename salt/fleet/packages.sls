{% from 'fleet/paths.jinja' import programs %}
{% set source = salt['checkout.folder']() %}

the master's packages are installed:
  pkg.installed:
    - pkgs: [nginx, openssl, python3-venv, libpam-modules, logrotate, git]
    - install_recommends: False

# nginx runs for salt-api only, with a configuration of its own
the package's web server is off:
  unit.disabled:
    - name: nginx.service
    - require:
      - pkg: the master's packages are installed

the master has its own copy of the code:
  checkout.installed:
    - name: {{ programs }}/checkout
    - source: {{ source | json }}
    - target: {{ pillar.target.name | json }}

the lock of the master's environment is copied:
  file.managed:
    - name: {{ programs }}/fleet.lock
    - source: {{ source }}/locks/fleet.lock
    - mode: '0644'
    - require:
      - checkout: the master has its own copy of the code

# --no-deps: the lock is complete but for timelib, which Salt needs for one Jinja filter only. /usr/bin: root's PATH may begin with a
# Python that the master's user cannot read
the master has a Python environment from its lock:
  cmd.run:
    - name: |
        set -eu
        rm -rf {{ programs }}/venv
        /usr/bin/python3 -m venv {{ programs }}/venv
        {{ programs }}/venv/bin/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r {{ programs }}/fleet.lock
        echo {{ programs }}/checkout >"$(echo {{ programs }}/venv/lib/python3*/site-packages)/vault_cube.pth"
        cp {{ programs }}/fleet.lock {{ programs }}/venv/
    - unless: cmp -s {{ programs }}/fleet.lock {{ programs }}/venv/fleet.lock
    - require:
      - pkg: the master's packages are installed
      - file: the lock of the master's environment is copied

# Salt resolves links in the path of the interpreter that asks PAM, which would lead out of the environment
PAM is asked by Salt's own Python:
  file.managed:
    - name: {{ programs }}/pam-python
    - mode: '0755'
    - contents: |
        #!/bin/sh
        # written by salt/fleet/packages.sls
        exec {{ programs }}/venv/bin/python "$@"

# fleet-pepper for people; Salt's own commands for root
{% for name in ('salt', 'salt-run', 'salt-key') %}
/usr/local/sbin/fleet-{{ name }} uses the fleet's configuration:
  file.managed:
    - name: /usr/local/sbin/fleet-{{ name }}
    - mode: '0755'
    - contents: |
        #!/bin/sh
        # written by salt/fleet/packages.sls
        exec {{ programs }}/venv/bin/{{ name }} -c /etc/vault-cube/fleet "$@"
{% endfor %}

pepper verifies certificates and returns exit codes:
  file.managed:
    - name: /usr/local/bin/fleet-pepper
    - mode: '0755'
    - contents: |
        #!/bin/sh
        # written by salt/fleet/packages.sls
        exec {{ programs }}/venv/bin/python -m vault_cube.fleet.pepper "$@"
