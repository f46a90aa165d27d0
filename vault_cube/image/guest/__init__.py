"""Boot an image in QEMU and check the guest."""
