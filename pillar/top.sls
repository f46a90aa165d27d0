# box.sls holds what every target shares, the target's file what differs, local.sls (not in git) has the last word.
base:
  '*':
    - box
    - targets.{{ opts.vault_cube.target }}
    - local:
        ignore_missing: True
