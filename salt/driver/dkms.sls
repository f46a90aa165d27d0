{% if pillar.driver.provider == 'debian' %}
# DKMS would generate a signing key: every build would differ, and the image would contain a key that nobody enrolled.
# Unsigned modules load only if Secure Boot is off. For Secure Boot, use provider ubuntu.
DKMS modules are not signed:
  file.managed:
    - name: /etc/dkms/framework.conf.d/vault-cube.conf
    - makedirs: True
    - user: root
    - group: root
    - mode: '0644'
    - contents:
      - '# written by salt/driver/dkms.sls: this file does not exist, so DKMS signs nothing'
      - sign_file="/nonexistent/sign-file"

the patch for the module sources is installed:
  file.managed:
    - name: /etc/dkms/vault-cube-mend
    - source: salt://driver/files/dkms-mend
    - makedirs: True
    - user: root
    - group: root
    - mode: '0755'

DKMS patches the module sources before each build:
  file.managed:
    - name: /etc/dkms/nvidia-current-open.conf
    - makedirs: True
    - user: root
    - group: root
    - mode: '0644'
    - contents:
      - '# written by salt/driver/dkms.sls; the path is relative to the build folder below /var/lib/dkms'
      - PRE_BUILD="../../../../../../etc/dkms/vault-cube-mend"
    - require:
      - file: the patch for the module sources is installed
{% else %}
this target builds no modules:
  test.nop: []
{% endif %}
