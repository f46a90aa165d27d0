{% from 'base/paths.jinja' import checkout %}

the box carries its own states:
  checkout.installed:
    - name: {{ checkout }}
    - source: {{ opts.vault_cube.checkout | json }}
    - target: {{ pillar.target.name | json }}
