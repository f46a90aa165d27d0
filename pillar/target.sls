{#- Included by path, because Salt reads a dot in a name, such as ubuntu-24.04, as a folder separator #}
{% include 'targets/' ~ opts.vault_cube.target ~ '.sls' %}
