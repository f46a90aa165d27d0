# In Packer 1.7 and later, the QEMU builder is a plugin: run `packer init packer/plugins` once before you use `vm`.
# This file is in its own folder because Packer 1.6 includes the builder and rejects required_plugins.
packer {
  required_plugins {
    qemu = {
      source  = "github.com/hashicorp/qemu"
      version = ">= 1.0.0"
    }
  }
}
