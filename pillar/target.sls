{#- by path: a name with a dot in it, such as ubuntu-24.04, is a folder to Salt #}
{% include 'targets/' ~ opts.vault_cube.target ~ '.sls' %}
