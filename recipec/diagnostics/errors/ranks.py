"""Runs over several processes: RC775 to RC779, RC791 to RC794, RC980, RC981."""

from __future__ import annotations

from collections.abc import Mapping

from recipec.diagnostics.model import Finding, diagnostic


@diagnostic("RC775", "rank-hangs")
def rank_hangs(act: str, seconds: float, elsewhere: Mapping[int, str], problem: str) -> Finding:
    """A rank waited for the others longer than `machine.timeout`, or lost its connection to them.

    What it checks: every exchange between the ranks of a run. The message says what the other ranks did last.
    Why it matters: an update needs all ranks. The run continues from its last checkpoint.
    Example: a rank reads its data from a network file system that no longer answers.
    How to fix: look at the rank that the message names: its log is in `logs/` of the run directory. A reward or an
    environment that needs longer than `machine.timeout` needs a larger one.
    """
    others = "; ".join(f"rank {rank} was at: {what}" for rank, what in sorted(elsewhere.items()))
    return Finding(
        f"no answer from the other ranks within {seconds:.0f} s at: {act}" + (f" ({others})" if others else ""),
        why=f"{problem}" if problem else "",
        path="machine.timeout",
    )


@diagnostic("RC776", "rank-lost")
def rank_lost(rank: int, how: str, restarts: int, log: str) -> Finding:
    """A rank ended unexpectedly, and the restarts that `machine.max_restarts` allows are used up.

    Why it matters: an update needs all ranks. Everything up to the last checkpoint is kept.
    Example: the operating system ended a process because memory ran out.
    How to fix: read the log of the rank, then run the same command again: it continues.
    """
    again = f" after {restarts} restart{'s' if restarts != 1 else ''}" if restarts else ""
    return Finding(f"rank {rank} {how}{again}; its log is {log}", path="machine.max_restarts")


@diagnostic("RC777", "ranks-differ")
def ranks_differ(what: str, rank: int, leader: str, other: str) -> Finding:
    """The ranks of a run do not have the same recipe, files or versions of packages.

    Why it matters: they would compute parts of different runs and add them up.
    Example: a node with another version of torch, or a data file that was not copied to all nodes.
    How to fix: install the same versions everywhere and put recipe and data where all ranks read the same files.
    """
    return Finding(f"{what} on rank {rank} is {other}, and on rank 0 it is {leader}")


@diagnostic("RC778", "no-process-group")
def no_process_group(rank: int, size: int, address: str, problem: str) -> Finding:
    """The ranks of a run could not connect to each other.

    Why it matters: without a connection no gradient can be added up.
    Example: the port of the leader is in use by another program, or a firewall closes it.
    How to fix: give the launcher another port (`MASTER_PORT`, or `--rdzv-endpoint` of torchrun), and see that every
    node reaches the first one under the address that the message names.
    """
    return Finding(f"rank {rank} of {size} cannot reach the leader at {address}: {problem}")


@diagnostic("RC779", "too-few-devices")
def too_few_devices(asked: int, found: int) -> Finding:
    """`machine.devices` is more than this machine has.

    Why it matters: two ranks on one GPU would share its memory and its time.
    Example: `devices: 8` on a machine with four GPUs.
    How to fix: set `machine.devices` to what there is; the results are the same up to rounding. Or set `device: cpu`.
    """
    return Finding(
        f"`devices` is {asked}, and this machine has {found} GPU{'s' if found != 1 else ''}", path="machine.devices"
    )


@diagnostic("RC791", "started-elsewhere")
def started_elsewhere(launcher: str, nodes: int, devices: int, command: str) -> Finding:
    """The processes of this run cannot be started from here.

    Why it matters: `torchrun` is started once on every node, and `slurm` starts processes inside of a job.
    Example: `recipec run` with `machine: {nodes: 2, devices: 8}` on one of the two nodes.
    How to fix: run the command that the message names. `launcher: ray` starts processes on all nodes of a Ray cluster.
    """
    where = f"{nodes} node{'s' if nodes != 1 else ''} with {devices} device{'s' if devices != 1 else ''} each"
    return Finding(
        f"`recipec run` does not start `launcher: {launcher}` on {where}", help=command, path="machine.launcher"
    )


@diagnostic("RC792", "no-ray-cluster")
def no_cluster(problem: str) -> Finding:
    """`machine.launcher` is `ray`, and there is no Ray cluster to connect to.

    Why it matters: Ray starts the processes on other nodes; one node alone needs no cluster.
    Example: `machine: {nodes: 2, launcher: ray}` without `ray start` on any node.
    How to fix: `ray start --head` on one node, `ray start --address=HEAD:6379` on the others, and `recipec run` on
    any of them. Or set `RAY_ADDRESS` to the address of a cluster.
    """
    return Finding(f"there is no Ray cluster: {problem}", path="machine.launcher")


@diagnostic("RC793", "other-number-of-ranks", "warning")
def other_number_of_ranks(size: int, nodes: int, devices: int) -> Finding:
    """A launcher started another number of processes than `machine.nodes` times `machine.devices`.

    Why it matters: the results are the same up to rounding, but the plan counted memory and time for other devices.
    Example: `torchrun --nproc-per-node 2 -m recipec run recipe.yaml` with `machine: {devices: 8}`.
    How to fix: start as many processes as the recipe says, or set `machine.nodes` and `machine.devices`.
    """
    return Finding(
        f"the launcher started {size} processes, and the recipe says {nodes} times {devices}", path="machine.devices"
    )


@diagnostic("RC794", "ray-cluster-too-small")
def cluster_too_small(wanted: str, has: str, seconds: float) -> Finding:
    """The nodes that a run needs were not free in the Ray cluster within `machine.timeout`.

    What it checks: CPUs and GPUs when the run begins, and when it begins again because a node is gone.
    Why it matters: an update needs all ranks. Everything up to the last checkpoint is kept.
    Example: `machine: {nodes: 2, devices: 8}` in a cluster with one node of eight GPUs.
    How to fix: start the nodes that are missing (`ray status` lists those that are there) and run the same command
    again; or set `machine.nodes` and `machine.devices` to what there is.
    """
    return Finding(f"no {wanted} within {seconds:.0f} s; the Ray cluster has {has}", path="machine.nodes")


@diagnostic("RC980", "callback-elsewhere")
def callback_elsewhere(devices: int) -> Finding:
    """`recipec.run` was given `on_step`, and the recipe runs in several processes.

    Why it matters: the steps are taken in other processes than the one that has the function.
    Example: `recipec.run("r.yaml", ["machine.devices=8"], on_step=print)`.
    How to fix: leave `on_step` out and read `recipec.load_run(folder).metrics(stage)`, also while the run goes on; or
    start the script itself once for each device, with `torchrun`.
    """
    return Finding(f"`on_step` cannot be called: the recipe runs in {devices} processes", path="machine.devices")


@diagnostic("RC981", "launcher-lost")
def launcher_lost(code: int) -> Finding:
    """The process in which `recipec.run` starts the ranks of a run has ended without an answer.

    Why it matters: how the run ended is not known. Everything up to the last checkpoint is kept.
    Example: the operating system ended it because memory ran out.
    How to fix: read what it printed, and call `recipec.run` again: the run continues.
    """
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    return Finding(f"the process that started the ranks ended by {how}", path="machine.devices")
