{% from 'base/paths.jinja' import checkout %}

box carries the states that it is made of:
  checkout.installed:
    - name: {{ checkout }}
    - source: {{ opts.vault_cube.checkout }}
    - target: {{ pillar.target.name }}
