"""The grain `gpu`: which GPUs the box has, and of which driver; never a traceback."""


def gpu():
    """
    count, devices, driver_version, kernel_module, accelerator, and `problem`, why it is empty. Never raises.

    devices: index, name, uuid, serial, memory_mib, compute_capability, family, pcie, vbios, ecc, mig; what a card lacks
    is absent.

    CLI Example:

    .. code-block:: bash

        salt-call --local grains.item gpu
        salt -G 'gpu:accelerator:nvidia' test.ping
    """
    try:
        # most machines have no driver: theirs is the short way
        from vault_cube.gpu.nvml import absent

        if problem := absent():
            from vault_cube.gpu.failures import nothing

            return {"gpu": nothing(problem)}
        from vault_cube.gpu.facts import facts
        from vault_cube.gpu.session import Session

        with Session() as session:
            return {"gpu": facts(session)}
    except Exception as err:  # a grain that raises is a traceback in every Salt command
        return {"gpu": {"count": 0, "devices": [], "accelerator": "cpu", "problem": f"{type(err).__name__}: {err}"}}
