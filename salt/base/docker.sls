{% set docker = pillar.base.docker %}

# Merged, because the runtime layer and the box's owner also write keys into this file
Docker keeps logs small, containers alive and ports private:
  shared.json_object:
    - name: /etc/docker/daemon.json
    - user: root
    - group: root
    - mode: '0644'
    - values:
        ip: {{ docker.publish_address | json }}
        live-restore: true
        log-driver: json-file
        log-opts: {max-size: {{ docker.log_size_mb }}m, max-file: '{{ docker.log_files }}'}
        no-new-privileges: true
        icc: {{ docker.icc | json }}
        userland-proxy: {{ docker.userland_proxy | json }}
        default-ulimits:
        {%- for name, limit in docker.default_ulimits | dictsort %}
          {{ name | json }}: {Name: {{ name | json }}, Soft: {{ limit.soft }}, Hard: {{ limit.hard }}}
        {%- else %} {}
        {%- endfor %}

Docker reads its settings again:
  cmd.run:
    # a daemon.json that Docker could not read has stopped it, and the next starts then reached systemd's limit
    - name: systemctl reset-failed docker.service; systemctl restart docker.service
    - onlyif: systemctl --quiet is-active docker.service || systemctl --quiet is-failed docker.service
    - onchanges:
      - shared: Docker keeps logs small, containers alive and ports private

{% if not docker.cri %}
# The package's file, or the owner's: only this key of it is ours. A key must stand before the first table
containerd has a configuration:
  file.managed:
    - name: /etc/containerd/config.toml
    - replace: False
    # if the package has none: in a file without a version, plugins have other names (containerd-config.toml(5))
    - contents: version = 2
    - user: root
    - group: root
    - mode: '0644'
    - makedirs: True

containerd does not serve Kubernetes:
  file.replace:
    - name: /etc/containerd/config.toml
    - pattern: '^[ \t]*disabled_plugins[ \t]*=[^\n]*$'
    - repl: disabled_plugins = ["io.containerd.grpc.v1.cri"]
    - prepend_if_not_found: True
    # under test=True, the state above has not made it
    - ignore_if_missing: True
    - backup: False
    - require:
      - file: containerd has a configuration

# Containers keep running: each has a process of its own that outlives containerd
containerd reads its settings again:
  cmd.run:
    - name: systemctl restart containerd.service
    - onlyif: test -d /run/systemd/system && systemctl --quiet is-active containerd.service
    - onchanges:
      - file: containerd does not serve Kubernetes
{% endif %}
