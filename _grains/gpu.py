"""The grain `gpu`: the GPUs of the box and their driver. Never a traceback, and never longer than 3 s."""


def _begun():
    """A session whose child opens NVML in the background; None on a machine without NVIDIA's library."""
    try:
        from vault_cube.gpu.nvml.device import absent

        if absent():
            return None
        from vault_cube.gpu.nvml.session import GRAIN_S, Session

        session = Session(*GRAIN_S)
        session.begin()
    except Exception:  # gpu() below gets the same error, and reports it
        return None
    return session


# Salt loads all grain modules before it computes its own grains, and NVML opens in the meantime: on an H200 the grain
# took 46 ms, and 104 ms without this (benchmarks/gpu_cost.py)
_SESSION = _begun()


def gpu():
    """
    Return count, devices, driver_version, kernel_module, accelerator, and `problem` if something does not answer.

    devices: index, name, uuid, serial, memory_mib, compute_capability, family, pcie, vbios, ecc, mig; fields that a
    card lacks are absent. A driver that hangs takes at most 3 s, for any number of GPUs. Never raises.

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
