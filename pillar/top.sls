# box.sls has the values that all targets share, the target's file those that differ. local.sls (not in git) overrides both.
# Salt reports an error in a file without file and line, or ends with a traceback. It therefore reads the files only if they
# have no problem; _pillar/vault_cube.py reports it otherwise.
# ignore_missing applies to a whole entry: local has its own entry, so that a missing box or target is still an error
{% if not salt['pillar_check.problems']() %}
base:
  '*':
    - box
    - target
  '?*':
    - ignore_missing: True
    - local
{% endif %}
