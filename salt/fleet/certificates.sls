# A certificate authority of the fleet's own: ca.crt goes to those who use pepper, ca.key stays here
{% from 'fleet/paths.jinja' import etc %}
{% set tls = etc ~ '/tls' %}
{% set server = pillar.fleet.server %}
{% set names = [] %}
{% for name in server.names %}
{% do names.append(('IP:' if name | is_ip else 'DNS:') ~ name) %}
{% endfor %}

certificates have a folder:
  file.directory:
    - name: {{ tls }}
    - makedirs: True
    - mode: '0755'

the fleet has a certificate authority:
  cmd.run:
    - name: |
        set -eu
        umask 077
        cd {{ tls }}
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days {{ server.ca_days }} \
          -keyout ca.key -out ca.crt -subj "/CN=Vault Cube fleet" \
          -addext basicConstraints=critical,CA:TRUE,pathlen:0 -addext keyUsage=critical,keyCertSign,cRLSign 2>&1
        chmod 644 ca.crt
    - creates: {{ tls }}/ca.crt
    - require:
      - file: certificates have a folder
      - pkg: the master's packages are installed

the names in the certificate are those of the pillar:
  file.managed:
    - name: {{ tls }}/api.ext
    - mode: '0644'
    - contents: |
        subjectAltName={{ names | join(',') }}
        basicConstraints=critical,CA:FALSE
        keyUsage=critical,digitalSignature
        extendedKeyUsage=serverAuth
    - require:
      - file: certificates have a folder

# 2592000 s: in its last 30 days a certificate is renewed. openssl verify fails for a certificate of a former authority
salt-api has a certificate:
  cmd.run:
    - name: |
        set -eu
        umask 077
        cd {{ tls }}
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout api.key -out api.csr -subj "/CN=salt-api" 2>&1
        openssl x509 -req -in api.csr -CA ca.crt -CAkey ca.key -days {{ server.certificate_days }} -extfile api.ext \
          -out api.crt 2>&1
        chmod 644 api.crt
        cp api.ext api.ext.used
        rm api.csr
    - unless: >-
        openssl x509 -checkend 2592000 -noout -in {{ tls }}/api.crt && cmp -s {{ tls }}/api.ext {{ tls }}/api.ext.used &&
        openssl verify -CAfile {{ tls }}/ca.crt {{ tls }}/api.crt
    - require:
      - cmd: the fleet has a certificate authority
      - file: the names in the certificate are those of the pillar
