# Boots an image in QEMU and applies layers to it over ssh, for work on states without building an image each time.
# `salt-call image.vm` makes the ssh key and the seed, sets the variables, and runs Packer with -only='vm.*'.

source "qemu" "vm" {
  qemu_binary      = var.vm_qemu
  iso_url          = var.vm_image
  iso_checksum     = "none"
  disk_image       = true
  disk_size        = var.vm_disk_size
  format           = "qcow2"
  skip_compaction  = true
  vm_name          = "disk.qcow2"
  output_directory = var.vm_output
  accelerator      = var.vm_accelerator
  machine_type     = "q35"
  headless         = true
  memory           = var.vm_memory_mib
  cpus             = var.vm_cpus

  # These replace -drive, -netdev and -device of Packer's QEMU builder: for UEFI, for the seed as a read-only disk, and
  # for a port forward that is bound to 127.0.0.1, because the builder's is open to the network.
  qemuargs = [
    ["-cpu", var.vm_accelerator == "kvm" ? "host" : "max"],
    ["-drive", "if=pflash,format=raw,unit=0,readonly=on,file=${var.vm_firmware}"],
    ["-drive", "if=pflash,format=raw,unit=1,file=${var.vm_work}/variables.fd"],
    ["-drive", "if=virtio,format=qcow2,cache=unsafe,file=${var.vm_output}/disk.qcow2"],
    ["-drive", "if=virtio,driver=vvfat,read-only=on,label=CIDATA,dir=${var.vm_seed}"],
    ["-netdev", "user,id=user.0,hostfwd=tcp:127.0.0.1:{{ .SSHHostPort }}-:${var.vm_ssh_port}"],
    ["-device", "virtio-net-pci,netdev=user.0,romfile="],
    # the tools tree has no ROM for a graphics card; the serial console suffices
    ["-vga", "none"],
    ["-serial", "file:${var.vm_work}/console.log"],
  ]

  boot_wait            = "1s"
  ssh_username         = var.ssh_user
  ssh_private_key_file = var.ssh_key
  ssh_agent_auth       = var.ssh_key == ""
  ssh_timeout          = "10m"
  shutdown_command     = "sudo systemctl poweroff"
  shutdown_timeout     = "5m"
}

build {
  name    = "vm"
  sources = ["source.qemu.vm"]

  # sshd accepts connections before the first boot is complete
  provisioner "shell" {
    inline = ["cloud-init status --wait >/dev/null || true", "systemctl is-system-running --wait || true"]
  }
  provisioner "shell-local" {
    inline = ["exec python3 -m vault_cube.carried ${var.vm_work}/checkout.tar.gz ${var.target}"]
  }
  provisioner "file" {
    source      = "${var.vm_work}/checkout.tar.gz"
    destination = "/tmp/vault-cube-checkout.tar.gz"
    generated   = true
  }
  provisioner "shell" {
    script           = "packer/apply.sh"
    environment_vars = ["TARGET=${var.target}", "LAYERS=${join(" ", var.layers)}"]
    execute_command  = "sudo env {{ .Vars }} sh -eu {{ .Path }}"
  }
}
