"""The grain `gpu`: which GPUs the box has, and of which driver. Never a traceback, and never longer than 3 s."""


def _begun():
    """A session whose child opens NVML in the background; None on a machine without NVIDIA's library."""
    try:
        from vault_cube.gpu.nvml.device import absent

        if absent():
            return None
        from vault_cube.gpu.nvml.session import GRAIN_S, Session

        session = Session(*GRAIN_S)
        session.begin()
    except Exception:  # gpu() below meets the same error, and reports it
        return None
    return session


# Salt loads every grain's module before it asks its own grains, and NVML opens in that time: on an H200 the grain took
# 46 ms, and 104 without this (benchmarks/gpu_cost.py)
_SESSION = _begun()


def gpu():
    """
    Return count, devices, driver_version, kernel_module, accelerator, and `problem` if a GPU or the driver is not well.

    devices: index, name, uuid, serial, memory_mib, compute_capability, family, pcie, vbios, ecc, mig; what a card lacks
    is absent. A driver that hangs costs 3 s at most, whatever the number of GPUs. Never raises.

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
        from vault_cube.gpu.nvml.session import GRAIN_S, Session
        from vault_cube.gpu.read.facts import facts

        with _SESSION or Session(*GRAIN_S) as session:
            return {"gpu": facts(session)}
    except Exception as err:  # a grain that raises is a traceback in every Salt command
        return {"gpu": {"count": 0, "devices": [], "accelerator": "cpu", "problem": f"{type(err).__name__}: {err}"}}
