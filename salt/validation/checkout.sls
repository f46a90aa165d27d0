box carries the states that it is made of:
  checkout.installed:
    - name: {{ pillar.validation.checkout }}
    - source: {{ opts.vault_cube.checkout }}
    - target: {{ pillar.target.name }}
