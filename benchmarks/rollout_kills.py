"""Kill rollout servers at random moments of a run, and compare rows and weights with those of an undisturbed run.

    python benchmarks/rollout_kills.py                          # 100 kills of a stand-in for vLLM's servers
    .venv-engines/bin/python benchmarks/rollout_kills.py --engine vllm --kills 5

Two servers run next to `recipec run`, which trains a tiny policy and samples a step ahead of it.  A server is killed
with SIGKILL about every second, and started again at once.  If a run ends before all kills are done, another one is
started.
Prints a Markdown table; exits with 1 where a row, its place or a weight differs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from safetensors.torch import load_file

from recipec.host.http_client import post, read_address

ROOT = Path(__file__).parents[1]
STAND_IN = (sys.executable, str(ROOT / "tests" / "support" / "rollout_server.py"), "--pause", "0.05")
VLLM = (
    *(
        sys.executable,
        "-m",
        "vllm.entrypoints.openai.api_server",
        "--served-model-name",
        "policy",
        "--dtype",
        "float32",
    ),
    *("--logprobs-mode", "processed_logprobs", "--generation-config", "vllm", "--enable-scale-out", "--enforce-eager"),
    *("--kv-cache-memory-bytes", "50000000", "--block-size", "32", "--no-enable-chunked-prefill"),
)
RECIPE = """\
recipec: 1
name: kills
machine: {device: cpu, rollout: {type: vllm, servers: [URLS], deadline: 600, max_restarts: 100000}}
stages:
  explore:
    kind: rl
    from: scratch
    policy:
      type: causal_lm
      scratch: {architecture: llama, hidden_size: 64, layers: 1, heads: 2, intermediate_size: 64, max_positions: 64}
    data: {path: a.jsonl}
    sampler: {num_generations: 4, max_completion_length: 12, max_staleness: 1}
    reward:
      long: {type: regex_format, pattern: "[a-m].*"}
    advantage:
      group: {type: group_relative}
    loss: {type: clipped, sampler_correction: truncate}
    optimizer: {learning_rate: 1.0e-3}
    budget: {steps: STEPS, prompts_per_step: 8}
"""


class Server:
    """A server process that is started again after each kill."""

    def __init__(self, command: tuple[str, ...], log: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.command, self.log = (*command, "--port", str(self.port)), log
        self.start()

    def start(self) -> None:
        """Start the process, on the same port."""
        variables = {**os.environ, "VLLM_SERVER_DEV_MODE": "1", "VLLM_LOGGING_LEVEL": "ERROR", "OMP_NUM_THREADS": "1"}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, env=variables, start_new_session=True)

    def kill(self) -> None:
        """End it as a crash does."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def ready(self) -> bool:
        """Whether it answers."""
        try:
            address = read_address("server", f"http://127.0.0.1:{self.port}/reset_prefix_cache")
            return post(address, b"{}", 5.0, {"Content-Type": "application/json"})[0] == 200
        except OSError:
            return False


def run(folder: Path, out: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "recipec", "run", "r.yaml", "--out", out, "--quiet"]
    variables = {"OMP_NUM_THREADS": "1", **os.environ}
    return subprocess.Popen(command, cwd=folder, env=variables, stdout=subprocess.DEVNULL)


def result(folder: Path, out: str) -> tuple[list[object], dict[str, bytes]]:
    """Rows with their rewards in their order, and the weights."""
    home = folder / out / "stages" / "explore"
    lines = [line for file in sorted((home / "samples").glob("step-*.jsonl")) for line in file.open()]
    rows = [(row["ids"], row["rewards"], row["policy_version"]) for row in map(json.loads, lines)]
    files = sorted((home / "policy").glob("*.safetensors"))
    return rows, {name: t.numpy().tobytes() for file in files for name, t in load_file(file).items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=["stand-in", "vllm"], default="stand-in")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    rng, killed, runs, differ, rows = random.Random(asked.seed), 0, 0, 0, 0  # noqa: S311 - no secret
    with tempfile.TemporaryDirectory() as name:
        folder, model = Path(name), Path(name) / "first" / "stages" / "explore" / "policy"
        (folder / "a.jsonl").write_text("".join(json.dumps({"prompt": f"p{i}"}) + "\n" for i in range(32)))
        text = RECIPE.replace("STEPS", str(asked.steps))
        if asked.engine == "vllm":  # its servers start with a model and are then given other weights
            (folder / "r.yaml").write_text(
                text.replace("{type: vllm, servers: [URLS], deadline: 600, max_restarts: 100000}", "{type: hf}")
            )
            assert run(folder, "first").wait() == 0
        command = STAND_IN if asked.engine == "stand-in" else (*VLLM, "--model", str(model))
        servers = [Server(command, folder / f"server-{i}.log") for i in range(2)]
        try:
            urls = ", ".join(f"http://127.0.0.1:{server.port}" for server in servers)
            (folder / "r.yaml").write_text(text.replace("URLS", urls))
            began = time.perf_counter()
            assert run(folder, "whole").wait() == 0
            alone, expected = time.perf_counter() - began, result(folder, "whole")
            began = time.perf_counter()
            while killed < asked.kills:
                runs += 1
                going = run(folder, f"killed-{runs}")
                while going.poll() is None:
                    time.sleep(rng.uniform(0.2, 1.0))
                    server = rng.choice(servers)
                    begun = (folder / f"killed-{runs}" / "stages" / "explore" / "metrics.jsonl").exists()
                    if killed < asked.kills and begun and server.ready():
                        server.kill()
                        server.start()
                        killed += 1
                assert going.returncode == 0, going.returncode
                found = result(folder, f"killed-{runs}")
                rows += len(found[0])
                differ += found != expected
            took = time.perf_counter() - began
        finally:
            for server in servers:
                server.kill()
    print("| servers | kills | runs | rows | runs that differ | seconds of a run | with kills |")
    print("|---|---|---|---|---|---|---|")
    print(f"| {asked.engine} | {killed} | {runs} | {rows} | {differ} | {alone:.0f} | {took / runs:.0f} |")
    return int(differ > 0)


if __name__ == "__main__":
    sys.exit(main())
