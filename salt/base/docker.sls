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

Docker reads its settings again:
  cmd.run:
    # a daemon.json that Docker could not read has stopped it, and the next starts then reached systemd's limit
    - name: systemctl reset-failed docker.service; systemctl restart docker.service
    - onlyif: systemctl --quiet is-active docker.service || systemctl --quiet is-failed docker.service
    - onchanges:
      - shared: Docker keeps logs small, containers alive and ports private
