# box.sls has the values that all targets share, the target's file those that differ. local.sls (not in git) overrides both.
# ignore_missing applies to a whole entry: local has its own entry, so that a missing box or target is still an error
base:
  '*':
    - box
    - target
  '?*':
    - ignore_missing: True
    - local
