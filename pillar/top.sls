# box.sls holds what every target shares, the target's file what differs, local.sls (not in git) has the last word.
base:
  '*':
    - box
    - target
    - local:
        ignore_missing: True
