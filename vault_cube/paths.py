"""Fixed paths on a box. They cannot be configured: units, Salt's configuration and Python's search path contain them.

States read the same paths from salt/base/paths.jinja; packer/apply.sh contains them as defaults.
"""

CHECKOUT = "/opt/vault-cube/checkout"
"""The box's copy of the checkout: states, pillar, modules and this package."""

SALT = "/opt/vault-cube/salt"
"""The Python environment of Salt."""
