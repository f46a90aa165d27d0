"""The grain `gpu`: which GPUs the box has, and of which driver; never a traceback."""


def _begun():
    """A session that opens NVML meanwhile; nothing where there is no driver, which most machines have not."""
    try:
        from vault_cube.gpu.nvml.device import absent

        if absent():
            return None
        from vault_cube.gpu.nvml.session import Session

        session = Session()
        session.begin()
    except Exception:  # told by gpu() below, which meets it again
        return None
    return session


# Salt loads every grain's module before it asks its own grains, and NVML opens meanwhile: on an H200 the grain took
# 46 ms then, 104 before (benchmarks/gpu_cost.py)
_SESSION = _begun()


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
        if _SESSION is None:
            from vault_cube.gpu.nvml.device import absent
            from vault_cube.gpu.nvml.failures import nothing

            if problem := absent():
                return {"gpu": nothing(problem)}
        from vault_cube.gpu.nvml.session import Session
        from vault_cube.gpu.read.facts import facts

        with _SESSION or Session() as session:
            return {"gpu": facts(session)}
    except Exception as err:  # a grain that raises is a traceback in every Salt command
        return {"gpu": {"count": 0, "devices": [], "accelerator": "cpu", "problem": f"{type(err).__name__}: {err}"}}
