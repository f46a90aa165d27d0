{% set docker = pillar.base.docker %}

# Merged, because the runtime layer and the box's owner also write keys into this file
Docker keeps logs small, containers alive and ports private:
  file.serialize:
    - name: /etc/docker/daemon.json
    - mode: '0644'
    - makedirs: True
    - serializer: json
    - merge_if_exists: True
    - dataset:
        ip: {{ docker.publish_address }}
        live-restore: true
        log-driver: json-file
        log-opts: {max-size: {{ docker.log_size_mb }}m, max-file: '{{ docker.log_files }}'}
        no-new-privileges: true
    - require:
      - sls: base.packages

Docker reads its settings again:
  cmd.run:
    - name: systemctl restart docker.service
    - onlyif: systemctl --quiet is-active docker.service
    - onchanges:
      - file: Docker keeps logs small, containers alive and ports private
