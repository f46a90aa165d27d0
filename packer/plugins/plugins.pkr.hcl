# For Packer 1.7 and later, whose QEMU builder is a plugin: `packer init packer/plugins`, once, before `vm` is used.
# It stands in a folder of its own because Packer 1.6 has the builder inside and stops at required_plugins.
packer {
  required_plugins {
    qemu = {
      source  = "github.com/hashicorp/qemu"
      version = ">= 1.0.0"
    }
  }
}
