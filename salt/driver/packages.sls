{% set driver = pillar.driver %}

driver packages are installed:
  pkg.installed:
    - pkgs: {{ driver.packages | json }}
    - install_recommends: False
