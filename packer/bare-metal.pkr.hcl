# Copies the checkout to a machine over ssh and applies layers to it:
#   packer build -only='bare_metal.*' -var host=box-7 -var ssh_key=$HOME/.ssh/id_ed25519 -var target=ubuntu-24.04 packer/
# The machine must run the target's release, and its user must be allowed to use sudo without a password.

locals {
  carried = "build/bare-metal-checkout.tar.gz"
}

source "null" "bare_metal" {
  communicator           = "ssh"
  ssh_host               = var.host
  ssh_port               = var.host_port
  ssh_username           = var.ssh_user
  ssh_private_key_file   = var.ssh_key
  ssh_agent_auth         = var.ssh_key == ""
  ssh_timeout            = "2m"
  ssh_handshake_attempts = 3
}

build {
  name    = "bare_metal"
  sources = ["source.null.bare_metal"]

  provisioner "shell-local" {
    inline = ["mkdir -p build && exec python3 -m vault_cube.carried ${local.carried} ${var.target}"]
  }
  provisioner "file" {
    source      = local.carried
    destination = "/tmp/vault-cube-checkout.tar.gz"
    generated   = true
  }
  provisioner "shell" {
    script           = "packer/apply.sh"
    environment_vars = ["TARGET=${var.target}", "LAYERS=${join(" ", var.layers)}"]
    execute_command  = "sudo env {{ .Vars }} sh -eu {{ .Path }}"
  }
}
