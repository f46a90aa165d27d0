# read by a minion that runs as a service; salt-call --local has no beacons
a minion tells of XIDs and lost GPUs:
  file.managed:
    - name: /etc/salt/minion.d/gpu-beacon.conf
    - mode: '0644'
    - makedirs: True
    - contents: |
        # written by salt/validation/beacon.sls
        beacons:
          gpu:
            - interval: {{ pillar.validation.monitoring.beacon_every_s }}
            - answer_s: {{ pillar.gpu.answer_s }}
