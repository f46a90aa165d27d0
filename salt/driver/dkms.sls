{% if pillar.driver.provider == 'debian' %}
# DKMS would sign with a key that it makes up: no two builds alike, and a key in an image that nobody enrolled.
# Without signatures these modules load where Secure Boot is off; provider ubuntu is the one for Secure Boot.
modules are built without a key of their own:
  file.managed:
    - name: /etc/dkms/framework.conf.d/vault-cube.conf
    - makedirs: True
    - mode: '0644'
    - contents:
      - '# written by salt/driver/dkms.sls: no such file, so nothing is signed'
      - sign_file="/nonexistent/sign-file"

module sources fit the kernel:
  file.managed:
    - name: /etc/dkms/vault-cube-mend
    - source: salt://driver/files/dkms-mend
    - makedirs: True
    - mode: '0755'

DKMS mends the sources before it builds:
  file.managed:
    - name: /etc/dkms/nvidia-current-open.conf
    - makedirs: True
    - mode: '0644'
    - contents:
      - '# written by salt/driver/dkms.sls; the path is relative to the build folder below /var/lib/dkms'
      - PRE_BUILD="../../../../../../etc/dkms/vault-cube-mend"
    - require:
      - file: module sources fit the kernel
{% else %}
no module is built here:
  test.nop: []
{% endif %}
