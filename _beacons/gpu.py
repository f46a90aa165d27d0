"""Events of the GPUs: an XID, a GPU or a driver that stops answering or answers again, and an added GPU."""


def validate(config):
    """Check the configuration: a list with `answer_s` and, for Salt itself, `interval`, both in seconds."""
    if not isinstance(config, list):
        return False, "beacon gpu: its configuration is a list, such as [{interval: 15}]"
    known = {"answer_s", "interval", "enabled", "disable_during_state_run", "beacon_module", "_beacon_name"}
    unknown = sorted({key for setting in config for key in setting} - known)
    if unknown:
        return False, f"beacon gpu: no such setting: {', '.join(unknown)}"
    seconds = [setting["answer_s"] for setting in config if "answer_s" in setting]
    if not seconds or not isinstance(seconds[0], int | float) or seconds[0] <= 0:
        return False, "beacon gpu: answer_s: give the time limit for an answer of the driver, in seconds"
    return True, "beacon gpu: well configured"


def beacon(config):
    """
    Report what happened to the GPUs since the last call; the first call registers for XIDs.

    Events are named ``salt/beacon/<minion>/gpu/xid``, ``…/lost``, ``…/back`` and ``…/added``. A machine without a
    driver has no events. A GPU that hung is asked again once a minute. Between two calls a child process keeps NVML
    open, and an open GPU cannot be reset: ``gpu.reset`` stops the minion during the reset.

    interval
        time between two calls, in seconds

    answer_s
        time limit for an answer of the driver, in seconds; on a box the pillar's gpu:answer_s

    .. code-block:: yaml

        beacons:
          gpu:
            - interval: 15
            - answer_s: 10
    """
    from vault_cube.gpu.nvml.session import Session
    from vault_cube.gpu.watch import Watch

    if "gpu_watch" not in __context__:
        answer_s = next(setting["answer_s"] for setting in config if "answer_s" in setting)
        # the minion waits for the answer, so the time limit is shorter after a GPU has hung
        __context__["gpu_watch"] = Watch(Session(answer_s, later_s=0.5, retry_s=60))
    return __context__["gpu_watch"].look()


def close(config):
    """End the child process; Salt calls this when the configuration of the beacons changes."""
    watch = __context__.pop("gpu_watch", None)
    if watch:
        watch.close()
