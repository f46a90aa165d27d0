"""The GPUs: what is in the box, whether it is fit, and what it can do, proven by benchmarks and burn-in."""

from pathlib import Path


def detect():
    """
    Show all that the driver says of each GPU: identity, memory, links, power, clocks, temperatures, errors.

    Exit code 1 where the target wants GPUs and one of them does not answer.

    Returns a table; with --out=json or --out=yaml the fields (the grain `gpu`, and for each device those of
    vault_cube.gpu.read.detail).

    CLI Example:

    .. code-block:: bash

        salt-call --local gpu.detect
        salt-call --local --out=json gpu.detect
    """
    return _answer("detect")


def topology():
    """
    Show how the GPUs reach each other and the processor: links, NUMA nodes, P2P, and what NCCL will use.

    Returns a matrix; with --out=json or --out=yaml gpus, links, legend, nccl.

    CLI Example:

    .. code-block:: bash

        salt-call --local gpu.topology
    """
    return _answer("topology")


def health(load=False, window_s=None):
    """
    Ask everything that tells whether the GPUs are fit, each question with verdict, evidence and what to do.

    Exit code 0 when all is well, 1 with a warning, 2 with a fault. Thresholds: pillar ``gpu:health``; what is known
    and borne on this box: ``gpu:health:accepted``. The grain ``gpu_health`` shows the last result.

    load
        keep the PCIe links busy meanwhile, to see what they reach; takes seconds

    window_s
        how long throttle reasons are sampled, in seconds

    Returns a table; with --out=json or --out=yaml subject (the GPUs), verdict, counts, started and checks (check, gpu,
    status, evidence, todo).

    CLI Example:

    .. code-block:: bash

        salt-call --local gpu.health
        salt-call --local --out=json gpu.health load=True window_s=10
    """
    return _answer("health", load=load, window_s=window_s, cache=Path(__opts__["cachedir"]))


def monitor(once=False, every_s=1):
    """
    Show the GPUs as they work: load, memory, heat, power, what slows them, who uses them; until q or Ctrl-C.

    Colours follow the alerts' thresholds, pillar ``validation:monitoring:alerts``.

    once
        show it once and end, for scripts; so it is, too, where no terminal is

    every_s
        time between two readings, in seconds

    Returns the last view; with --out=json or --out=yaml one view's fields: gpus (as in
    vault_cube.gpu.read.readings), processes, problem.

    CLI Example:

    .. code-block:: bash

        salt-call --local gpu.monitor
        salt-call --local --out=json gpu.monitor once=True
    """
    import sys

    from vault_cube import terminal

    lives = not once and terminal.for_a_person(__opts__) and sys.stdout.isatty()
    return _answer("monitor", every_s=float(every_s) if lives else None)


def validate(load=True):
    """
    Hold the GPUs against what the pillar expects: count, model, memory, driver, links, power cap, modes.

    Exit code 0 if the GPUs are as expected, 1 with a warning, 2 with a fault. Pillar: ``driver:gates``, ``driver``,
    ``gpu``.

    load
        keep the PCIe links busy, to see what they reach; an idle link tells nothing

    Returns a table; with --out=json or --out=yaml the fields of ``gpu.health``.

    CLI Example:

    .. code-block:: bash

        salt-call --local gpu.validate
    """
    return _answer("validate", load=load)


def reset(index, test=False):
    """
    Reset one GPU: stop the services that hold the GPUs (pillar ``gpu:reset:stop``), reset it, start them again.

    ``nvidia-smi --gpu-reset`` alone refuses while the persistence daemon, the exporter or the minion's beacon hold the
    GPU. Fails if a program uses it. A GPU that cannot be reset by itself (many with a display, or with NVLink) needs a
    reboot.

    index
        number of the GPU, as ``gpu.detect`` shows it

    test
        return the commands, and run none

    Returns gpu, commands, reset (whether it worked), message (the last line of nvidia-smi).

    CLI Example:

    .. code-block:: bash

        salt-call --local gpu.reset 2 test=True
        salt-call --local gpu.reset 2
    """
    from salt.exceptions import CommandExecutionError

    if not str(index).isdigit():
        raise CommandExecutionError(f"gpu.reset: {index} is not the number of a GPU: `gpu.detect` lists them")
    return _answer("reset", index=int(index), test=bool(test))


def benchmark(suite=None, quick=False, force=False):
    """
    Measure what the box can do, judge it by the pillar's thresholds, and publish the grain ``gpu_benchmark``.

    Suites run one after the other: the ceilings (matmul), DDP scaling, TensorFlow, vLLM. Exit code 0 when the
    verdict is
    ``pass``, or nothing measured has a threshold.

    suite
        one suite, or several with commas; all of the pillar's otherwise

    quick
        a few minutes instead of half an hour

    force
        measure on a busy or throttled GPU, too; the result says so

    Returns verdict, verdicts by question, medians with their 95 % intervals, and the file of the whole result.

    CLI Example:

    .. code-block:: bash

        salt-call --local gpu.benchmark
        salt-call --local gpu.benchmark ddp quick=True
    """
    from vault_cube.bench import verbs

    return _proof(verbs.benchmark, suite, cache=__opts__["cachedir"], quick=quick, force=force)


def benchmark_compare(a="previous", b="last"):
    """
    Say what changed from one result to another, and whether it is more than noise (permutation test).

    a, b
        names of results, paths, ``last`` or ``previous``

    Returns what differed besides the numbers, and by number: medians, ratio, p, and ``faster``, ``slower`` or
    ``noise``.

    CLI Example:

    .. code-block:: bash

        salt-call --local gpu.benchmark_compare previous last
    """
    from vault_cube.bench import verbs

    return _proof(verbs.compare, a, b)


def stress(duration=None, resume=False, abandon=False, background=None):
    """
    Burn every GPU for a time, every result checked, a sample a second on disk; without a GPU, the processor.

    Stops by itself at the pillar's temperature. Exit code 0 when the verdict is ``pass``.

    duration
        such as 60s, 5m or 24h

    resume
        go on with the burn that a reboot or Ctrl-C interrupted

    abandon
        end that burn, with a verdict on what there is

    background
        run as a systemd unit, through reboots; the default for more than the pillar's ``benchmark:stress:background_s``

    Returns the verdict: throttling by cause and share of time, clocks against the first hour, XIDs, ECC, wrong results,
    and curves; in the background, how to follow.

    CLI Example:

    .. code-block:: bash

        salt-call --local gpu.stress duration=60s
        salt-call --local gpu.stress duration=24h
    """
    from vault_cube.bench import verbs

    return _proof(verbs.stress, duration, resume=resume, abandon=abandon, background=background)


def report(result="last", burn="last", folder=None):
    """
    Write the report of a result and a burn: one HTML file that needs nothing else, and Markdown.

    result, burn
        names as ``gpu.benchmark`` and ``gpu.stress`` gave them, or ``last``

    folder
        where to write; the results' own otherwise

    Returns the two paths.

    CLI Example:

    .. code-block:: bash

        salt-call --local gpu.report folder=/tmp
    """
    from vault_cube.bench import verbs

    return _proof(verbs.report, result, burn, folder=folder)


def _answer(command, **kwargs):
    """Run a command of vault_cube.gpu.verbs: a table for a person, the fields for a program, its exit code."""
    from salt.exceptions import CommandExecutionError

    from vault_cube import terminal
    from vault_cube.errors import VaultCubeError
    from vault_cube.gpu import verbs
    from vault_cube.settings import PillarError, of_minion

    try:
        answer = getattr(verbs, command)(of_minion(__pillar__), **kwargs)
    except (VaultCubeError, PillarError) as err:
        raise CommandExecutionError(str(err)) from err
    __context__["retcode"] = answer.exit_code
    return answer.text() if terminal.for_a_person(__opts__) else answer.document


def _proof(verb, *args, **kwargs):
    """Run a verb of vault_cube.bench with the pillar's settings: errors in one line, the exit code by the verdict."""
    from salt.exceptions import CommandExecutionError

    from vault_cube.errors import VaultCubeError
    from vault_cube.settings import PillarError, of_minion

    try:
        said, well = verb(of_minion(__pillar__), *args, **kwargs)
    except (VaultCubeError, PillarError) as err:
        raise CommandExecutionError(str(err)) from None
    if not well:
        __context__["retcode"] = 1
    return said
