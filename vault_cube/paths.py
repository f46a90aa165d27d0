"""Fixed paths on a box. They are no choice: units, Salt's configuration and Python's search path all contain them.

States read the same paths from salt/base/paths.jinja; packer/apply.sh has them as defaults.
"""

CHECKOUT = "/opt/vault-cube/checkout"
"""The box's copy of the checkout: states, pillar, modules and this package."""

SALT = "/opt/vault-cube/salt"
"""The Python environment of Salt."""
