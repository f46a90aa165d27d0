"""Events of the GPUs: an XID, a GPU or a driver that stops answering, and one that is back."""


def validate(config):
    """The configuration is a list; `interval`, seconds between two looks, is Salt's own."""
    if not isinstance(config, list):
        return False, "beacon gpu: its configuration is a list, such as [{interval: 15}]"
    known = {"interval", "enabled", "disable_during_state_run", "beacon_module", "_beacon_name"}
    unknown = sorted({key for one in config for key in one} - known)
    if unknown:
        return False, f"beacon gpu: no such setting: {', '.join(unknown)}"
    return True, "beacon gpu: well configured"


def beacon(config):
    """
    Look at the GPUs and tell what is new; the first look begins to listen.

    Events are named ``salt/beacon/<minion>/gpu/xid``, ``…/lost`` and ``…/back``. A machine without a driver has none.

    .. code-block:: yaml

        beacons:
          gpu:
            - interval: 15
    """
    from vault_cube.gpu.nvml.session import Session
    from vault_cube.gpu.watch import Watch

    if "gpu_watch" not in __context__:
        # the minion waits meanwhile: a driver that hangs must not hold it for long
        __context__["gpu_watch"] = Watch(Session(answer_s=3))
    return __context__["gpu_watch"].look()


def close(config):
    """End the process that asks the driver; Salt calls it when beacons are configured anew."""
    watch = __context__.pop("gpu_watch", None)
    if watch:
        watch.close()
