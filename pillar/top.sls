# box.sls holds what every target shares, the target's file what differs, local.sls (not in git) has the last word.
# ignore_missing counts for a whole entry: local stands in one of its own, so that a missing box or target is an error
base:
  '*':
    - box
    - target
  '?*':
    - ignore_missing: True
    - local
