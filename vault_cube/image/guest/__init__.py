"""Boot an image in QEMU and judge the guest."""
