{% from 'base/paths.jinja' import salt_environment %}

# uv and Salt are installed with the root tree, in Salt's own environment
uv is on the path:
  file.symlink:
    - name: /usr/local/bin/uv
    - target: {{ salt_environment }}/bin/uv
    # also in the place of a file
    - force: True

# A program outside of Salt and the checkout refuses to apply states from a changed checkout. Images have it, and no state writes it
salt-call is on the path:
  file.managed:
    - name: /usr/local/bin/salt-call
    - user: root
    - group: root
    - mode: '0755'
    # images of version 1.0.0 have a link here
    - follow_symlinks: False
    - contents: |
        #!/bin/sh
        # written by salt/base/python.sls
        guard=/usr/lib/vault-cube/drift
        case " $* " in
        *" state."*) [ ! -x "$guard" ] || "$guard" guard -- "$@" || exit ;;
        esac
        exec {{ salt_environment }}/bin/salt-call "$@"
