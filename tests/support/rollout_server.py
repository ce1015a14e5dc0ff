"""A stand-in for a vLLM server, which starts in a moment: its protocol, and a Llama in numpy.

    python tests/support/rollout_server.py --port 8000 [--model FOLDER] [--enable-lora] [--pause SECONDS]

It samples and scores as vLLM does: log-probabilities are those of the weights that it read last, a row depends on its
prompt and seed alone, and completions for an adapter that it was not given are refused.
"""

import argparse
import json
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

Weights = dict[str, NDArray[np.float32]]
_PREFIX = "base_model.model."


class Llama:
    """The forward pass of Transformers' Llama over one sequence."""

    def __init__(self, folder: Path) -> None:
        """Read configuration and weights."""
        self.config = json.loads((folder / "config.json").read_text())
        self.weights: Weights = load_file(folder / "model.safetensors")

    def adapted(self, folder: Path) -> "Llama":
        """Return the model with the adapter of a folder merged into it."""
        about, made = json.loads((folder / "adapter_config.json").read_text()), object.__new__(Llama)
        made.config, made.weights = self.config, dict(self.weights)
        scale = np.float32(about["lora_alpha"] / about["r"])
        for name, first in (low := load_file(folder / "adapter_model.safetensors")).items():
            if ".lora_A." in name:
                target = name.removeprefix(_PREFIX).replace(".lora_A.", ".")
                made.weights[target] = made.weights[target] + scale * low[name.replace("lora_A", "lora_B")] @ first
        return made

    def logits(self, ids: list[int]) -> NDArray[np.float32]:
        """Return the logits after the last token [V]."""
        config, weights, length = self.config, self.weights, len(ids)
        heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
        size = config.get("head_dim") or config["hidden_size"] // heads
        theta = (config.get("rope_parameters") or config).get("rope_theta", 10000.0)
        angle = np.outer(np.arange(length), theta ** (-np.arange(0, size, 2) / size))
        cos, sin = (np.tile(f(angle), 2).astype(np.float32)[None] for f in (np.cos, np.sin))
        mask = np.triu(np.full((length, length), -np.inf, np.float32), 1)
        hidden = weights["model.embed_tokens.weight"][ids]
        for layer in range(config["num_hidden_layers"]):
            part = f"model.layers.{layer}."
            normed = self._norm(hidden, part + "input_layernorm")
            q, k, v = (
                (normed @ weights[f"{part}self_attn.{name}_proj.weight"].T).reshape(length, -1, size).swapaxes(0, 1)
                for name in "qkv"
            )
            q, k = (x * cos + np.concatenate([-x[..., size // 2 :], x[..., : size // 2]], -1) * sin for x in (q, k))
            k, v = (np.repeat(x, heads // kv_heads, 0) for x in (k, v))
            mixed = softmax(q @ k.swapaxes(1, 2) / np.float32(size**0.5) + mask) @ v
            hidden = hidden + mixed.swapaxes(0, 1).reshape(length, -1) @ weights[f"{part}self_attn.o_proj.weight"].T
            normed = self._norm(hidden, part + "post_attention_layernorm")
            gate, up = (normed @ weights[f"{part}mlp.{name}_proj.weight"].T for name in ("gate", "up"))
            hidden = hidden + (gate / (1 + np.exp(-gate)) * up) @ weights[f"{part}mlp.down_proj.weight"].T
        found: NDArray[np.float32] = self._norm(hidden[-1:], "model.norm")[0] @ weights["lm_head.weight"].T
        return found

    def _norm(self, x: NDArray[np.float32], name: str) -> NDArray[np.float32]:
        scale = np.sqrt((x * x).mean(-1, keepdims=True) + np.float32(self.config["rms_norm_eps"]))
        return x / scale * self.weights[f"{name}.weight"]


def softmax(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Normalise the exponentials over the last axis."""
    e = np.exp(x - x.max(-1, keepdims=True))
    found: NDArray[np.float32] = e / e.sum(-1, keepdims=True)
    return found


def completed(model: Llama, ids: list[int], params: dict[str, Any]) -> dict[str, Any]:
    """Complete a prompt; return the choice as vLLM's endpoint writes it."""
    rng, made, logprobs, reason = np.random.default_rng(params["seed"]), list[int](), list[dict[str, float]](), "length"
    while len(made) < params["max_tokens"] and reason == "length":
        logits = model.logits([*ids, *made]) / np.float32(params["temperature"] or 1.0)
        chances = softmax(logits)
        drawn = int(np.searchsorted(np.cumsum(chances, dtype=np.float64), rng.random()))
        token = min(drawn, len(chances) - 1) if params["temperature"] else int(chances.argmax())
        made.append(token)
        logprobs.append({"logprob": float(np.log(chances[token]))})
        if token in params["stop_token_ids"]:
            reason = "stop"
    return {"token_ids": made, "logprobs": {"content": logprobs}, "finish_reason": reason}


class Served(BaseHTTPRequestHandler):
    """The endpoints that rollouts need."""

    protocol_version = "HTTP/1.1"
    model: Llama | None = None
    adapters: ClassVar[dict[str, Llama]] = {}
    version = "default"
    takes_adapters = False
    pause = 0.0
    lock = Lock()

    def do_POST(self) -> None:
        """Answer one request."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
        status, answer = self.answer(self.path, body)
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Return status and answer of one request."""
        served = type(self)
        if path == "/collective_rpc":
            served.model, served.adapters = Llama(Path(body["kwargs"]["weights_path"])), {}
        elif path == "/update_weight_version":
            served.version = body["new_version"]
        elif path == "/v1/load_lora_adapter" and served.takes_adapters and served.model is not None:
            served.adapters = {**served.adapters, body["lora_name"]: served.model.adapted(Path(body["lora_path"]))}
        elif path == "/v1/unload_lora_adapter" and served.takes_adapters:
            served.adapters = {name: model for name, model in served.adapters.items() if name != body["lora_name"]}
        elif path == "/inference/v1/generate":
            model = served.model if body["model"] == "policy" else served.adapters.get(body["model"])
            if model is None:
                return 404, {"error": f"there is no model {body['model']}"}
            time.sleep(served.pause)
            with served.lock:  # as an engine, it computes one batch at a time
                made = completed(model, body["token_ids"], body["sampling_params"])
            return 200, {"choices": [{**made, "weight_versions": [{"version": served.version}]}]}
        elif path != "/reset_prefix_cache":
            return 404, {"error": "Not Found"}
        return 200, {}

    def log_message(self, *args: Any) -> None:
        """Print nothing."""


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--enable-lora", action="store_true")
    parser.add_argument("--pause", type=float, default=0.0)
    asked, _ = parser.parse_known_args()
    Served.model = None if asked.model is None else Llama(asked.model)
    Served.takes_adapters, Served.pause = asked.enable_lora, asked.pause
    ThreadingHTTPServer.request_queue_size = 256
    ThreadingHTTPServer(("127.0.0.1", asked.port), Served).serve_forever()


if __name__ == "__main__":
    main()
