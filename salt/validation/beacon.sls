# Used by a minion that runs as a service; salt-call --local does not run beacons
a minion sends events for XIDs and lost GPUs:
  file.managed:
    - name: /etc/salt/minion.d/gpu-beacon.conf
    - user: root
    - group: root
    - mode: '0644'
    - makedirs: True
    - contents: |
        # written by salt/validation/beacon.sls
        beacons:
          gpu:
            - interval: {{ pillar.validation.monitoring.beacon_every_s }}
            - answer_s: {{ pillar.gpu.answer_s }}
