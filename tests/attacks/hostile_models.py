"""Attacks by the folder of a model: weights, descriptions, tokenizers, adapters, chat templates."""

from __future__ import annotations

import json
import os
import shutil
import struct
from functools import cache
from pathlib import Path
from typing import Any

from attacks.attack import DONE, Attack, Scene
from support.small_recipes import ROWS, SFT, rows

FROM = SFT[: SFT.index("    from:")] + "    from: ./model\n" + SFT[SFT.index("    data:") :]
_SIZES = {"hidden_size": 16, "layers": 1, "heads": 2, "intermediate_size": 32, "max_positions": 64}
PICKLE = b"cos\nsystem\n(S'touch CANARY'\ntR."


@cache
def whole() -> dict[str, bytes]:
    """The files of a model in full."""
    from recipec.runtime.model import scratch
    from recipec.spec.policy import Scratch

    home = Path("whole").absolute()
    tokenizer = scratch.characters()
    scratch.build_model(Scratch(**_SIZES), tokenizer).save_pretrained(home)
    tokenizer.save_pretrained(home)
    return {path.name: path.read_bytes() for path in home.iterdir()}


def starts_from(change, recipe: str = FROM, data: str = ROWS):
    """Run a recipe from a model that was changed."""

    def act(scene: Scene) -> str:
        for name, content in whole().items():
            scene.write(f"model/{name}", content)
        change(scene, Path("model"))
        scene.write("a.jsonl", data)
        scene.write("r.yaml", recipe)
        return scene.call("run", "r.yaml")

    return act


def put(name: str, content: str | bytes, *remove: str):
    """Write a file of the model, and remove others."""

    def change(scene: Scene, model: Path) -> None:
        for other in remove:
            (model / other).unlink(missing_ok=True)
        data = content.encode() if isinstance(content, str) else content
        scene.write(f"model/{name}", data.replace(b"CANARY", str(scene.canary).encode()))

    return change


def keys(name: str, **changed: Any):
    """Change keys of a description."""

    def change(_scene: Scene, model: Path) -> None:
        path = model / name
        found = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(found | changed))

    return change


def code(name: str, **changed: Any):
    """Change keys of a description, and add a file of code that they name."""

    def change(scene: Scene, model: Path) -> None:
        keys(name, **changed)(scene, model)
        for file in ("modeling", "configuration", "custom_generate/generate", "tokenization"):
            scene.write(f"model/{file}.py", "open('CANARY', 'w').close()\nclass X: pass\ndef generate(): pass\n")

    return change


def header(make):
    """Replace the header of the weights by what `make` returns for the true one: a mapping or bytes."""

    def change(_scene: Scene, model: Path) -> None:
        data = (model / "model.safetensors").read_bytes()
        size = struct.unpack("<Q", data[:8])[0]
        made = make(json.loads(data[8 : 8 + size]))
        text = made if isinstance(made, bytes) else json.dumps(made).encode()
        (model / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])

    return change


def each(**changed: Any):
    """Change every tensor of a header."""
    return lambda found: {k: v if k == "__metadata__" else {**v, **changed} for k, v in found.items()}


def first(**changed: Any):
    """Change the first tensor of a header."""

    def make(found: dict[str, Any]) -> dict[str, Any]:
        name = next(key for key in found if key != "__metadata__")
        return {**found, name: {**found[name], **changed}}

    return make


def _twice(found: dict[str, Any]) -> bytes:
    text = json.dumps(found)
    name = next(key for key in found if key != "__metadata__")
    return (text[:-1] + f", {json.dumps(name)}: {json.dumps(found[name])}}}").encode()


def _size(size: int):
    return put("model.safetensors", struct.pack("<Q", size) + b"{}" + b" " * 64)


def _linked(name: str, target: str):
    def change(_scene: Scene, model: Path) -> None:
        (model / name).unlink(missing_ok=True)
        (model / name).symlink_to(target)

    return change


def _fifo(_scene: Scene, model: Path) -> None:
    (model / "config.json").unlink()
    os.mkfifo(model / "config.json")


def _indexed(shard: str):
    def change(scene: Scene, model: Path) -> None:
        shutil.copy(model / "model.safetensors", scene.folder / "outside.safetensors")
        (model / "model.safetensors").unlink()
        (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"lm_head.weight": shard}}))

    return change


def _folder_shard(_scene: Scene, model: Path) -> None:
    (model / "model.safetensors").unlink()
    (model / "x.safetensors").mkdir()
    (model / "model.safetensors.index.json").write_text('{"weight_map": {"a": "x.safetensors"}}')


def tokenizer(edit):
    """Change the tokenizer's file."""

    def change(_scene: Scene, model: Path) -> None:
        path = model / "tokenizer.json"
        found = json.loads(path.read_text())
        edit(found)
        path.write_text(json.dumps(found))

    return change


def split_by(pattern: str):
    """Split text by a pattern."""
    step = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return tokenizer(lambda found: found.update(pre_tokenizer=step))


def expands(times: int):
    """Let a normalizer make each character many."""
    one = {"type": "Replace", "pattern": {"Regex": "(.)"}, "content": "aaaaaaaaaaaaaaaa"}
    made = {"type": "Sequence", "normalizers": [one] * times}
    return tokenizer(lambda found: found.update(normalizer=made))


def shadows(text: str, special: bool = True):
    """Add a token for ordinary text that ends every turn."""
    token = {
        "id": 1,
        "content": text,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": special,
    }
    return tokenizer(lambda found: found["added_tokens"].append(token))


def many_tokens(found: dict[str, Any]) -> None:
    """Add twenty thousand tokens."""
    found["added_tokens"] += [
        {
            "id": 1000 + i,
            "content": f"<t{i}>",
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": False,
        }
        for i in range(20_000)
    ]


def adapter(**changed: Any):
    """Put the description of an adapter into the model's folder."""
    base = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": 1,
        "lora_alpha": 1,
        "target_modules": ["q_proj"],
        "base_model_name_or_path": "./nowhere",
    }

    def change(scene: Scene, model: Path) -> None:
        scene.write("model/adapter_config.json", json.dumps(base | changed))
        scene.write("model/adapter_model.bin", PICKLE.replace(b"CANARY", str(scene.canary).encode()))

    return change


def regex_adapter(pattern: str):
    """Put an adapter into the model's folder that chooses its layers by a pattern."""

    def change(scene: Scene, model: Path) -> None:
        import torch
        from safetensors.torch import save_file

        adapter(target_modules=pattern)(scene, model)
        (model / "adapter_model.bin").unlink()
        save_file({"x": torch.zeros(1)}, model / "adapter_model.safetensors")

    return change


_ADAPT = FROM.replace("    data:", "    adapter: merge\n    data:")

ATTACKS = [
    Attack(
        "weights-pickle", "CVE-2025-32434", "RC603", starts_from(put("pytorch_model.bin", PICKLE, "model.safetensors"))
    ),
    Attack("weights-pickle-pt", "CVE-2024-11393", "RC603", starts_from(put("model.pt", PICKLE, "model.safetensors"))),
    Attack("weights-pickle-next-to-safetensors", "CVE-2025-32434", DONE, starts_from(put("pytorch_model.bin", PICKLE))),
    Attack("weights-keras", "CVE-2025-1550", "RC603", starts_from(put("tf_model.h5", PICKLE, "model.safetensors"))),
    Attack("weights-pickle-named-safetensors", "CWE-502", "RC723", starts_from(put("model.safetensors", PICKLE))),
    Attack("weights-training-args", "CVE-2024-11392", DONE, starts_from(put("training_args.bin", PICKLE))),
    Attack("weights-optimizer", "CVE-2023-7018", DONE, starts_from(put("optimizer.pt", PICKLE))),
    Attack("weights-header-bomb", "CWE-789", "RC723", starts_from(_size(1 << 62))),
    Attack("weights-header-negative", "CWE-190", "RC723", starts_from(_size((1 << 64) - 1))),
    Attack("weights-header-100mb", "CWE-789", "RC723", starts_from(_size(100_000_001))),
    Attack("weights-header-deep", "CWE-674", "RC723", starts_from(header(lambda _: b'{"a":' * 100_000))),
    Attack("weights-overlap", "CWE-119", "RC723", starts_from(header(each(data_offsets=[0, 64])))),
    Attack("weights-outside", "CWE-125", "RC723", starts_from(header(first(data_offsets=[0, 1 << 40])))),
    Attack("weights-backwards", "CWE-125", "RC723", starts_from(header(first(data_offsets=[64, 0])))),
    Attack("weights-negative-shape", "CWE-1284", "RC723", starts_from(header(first(shape=[-1, -16])))),
    Attack("weights-overflowing-shape", "CWE-190", "RC723", starts_from(header(first(shape=[1 << 33, 1 << 33])))),
    Attack("weights-wrong-dtype", "CWE-843", "RC723", starts_from(header(first(dtype="F64")))),
    Attack("weights-unknown-dtype", "CWE-843", "RC723", starts_from(header(first(dtype="PYOBJECT")))),
    Attack("weights-same-name-twice", "CWE-694", DONE, starts_from(header(_twice))),
    Attack(
        "weights-metadata-code",
        "CVE-2025-23304",
        DONE,
        starts_from(
            header(
                lambda found: {**found, "__metadata__": {"format": "pt", "_target_": "os.system", "x": "touch canary"}}
            )
        ),
    ),
    Attack(
        "weights-escape-name",
        "CWE-150",
        "RC723",
        starts_from(header(lambda found: {("\x1b[2J" + k if k != "__metadata__" else k): v for k, v in found.items()})),
    ),
    Attack("index-parent", "CWE-22", "RC722", starts_from(_indexed("../outside.safetensors"))),
    Attack("index-absolute", "CWE-36", "RC722", starts_from(_indexed("/etc/passwd"))),
    Attack("index-base-parent", "CWE-22", "RC722", starts_from(_indexed("base/../../outside.safetensors"))),
    Attack("index-folder", "CWE-706", "RC722", starts_from(_folder_shard)),
    Attack(
        "index-of-lists",
        "CWE-843",
        "RC735",
        starts_from(put("model.safetensors.index.json", '{"weight_map": [1]}', "model.safetensors")),
    ),
    Attack("weights-endless-link", "CWE-59", "RC735", starts_from(_linked("model.safetensors", "/dev/zero"))),
    Attack("config-endless-link", "CWE-400", "RC735", starts_from(_linked("config.json", "/dev/zero"))),
    Attack("config-fifo", "CWE-400", "RC735", starts_from(_fifo)),
    Attack("config-deep", "CWE-674", "RC735", starts_from(put("config.json", '{"a":' * 200_000))),
    Attack(
        "config-large",
        "CWE-770",
        "RC735",
        starts_from(put("config.json", '{"a": "' + "x" * (65 << 20) + '"}')),
        memory=400,
    ),
    Attack(
        "config-huge-integer",
        "CVE-2020-10735",
        "RC735",
        starts_from(put("config.json", '{"vocab_size": ' + "9" * 5000 + "}")),
    ),
    Attack(
        "config-auto-map",
        "CVE-2026-5241",
        "RC600",
        starts_from(code("config.json", auto_map={"AutoModelForCausalLM": "modeling.X"})),
    ),
    Attack(
        "config-auto-map-deep",
        "CVE-2025-66448",
        "RC600",
        starts_from(code("config.json", text_config={"auto_map": {"AutoConfig": "configuration.X"}})),
    ),
    Attack(
        "config-auto-map-remote",
        "CVE-2025-66448",
        "RC600",
        starts_from(code("config.json", auto_map={"AutoConfig": "evil/repo--configuration.X"})),
    ),
    Attack(
        "config-custom-pipelines",
        "CWE-829",
        "RC600",
        starts_from(code("config.json", custom_pipelines={"text-generation": {"impl": "modeling.X"}})),
    ),
    Attack(
        "config-custom-generate",
        "CWE-829",
        "RC600",
        starts_from(code("generation_config.json", custom_generate="evil/repo")),
    ),
    Attack(
        "config-kernels",
        "CVE-2026-4372",
        "RC600",
        starts_from(code("config.json", attn_implementation="evil/kernel:run")),
    ),
    Attack(
        "config-kernels-internal",
        "CVE-2026-4372",
        "RC600",
        starts_from(code("config.json", _attn_implementation_internal="evil/kernel")),
    ),
    Attack("config-use-kernels", "CVE-2026-4372", "RC600", starts_from(code("config.json", use_kernels=True))),
    Attack(
        "config-trust-remote-code",
        "CVE-2025-66448",
        "RC600",
        starts_from(code("config.json", trust_remote_code=True, model_type="x")),
    ),
    Attack("config-unknown-family", "CWE-829", "RC602", starts_from(code("config.json", model_type="modeling"))),
    Attack("config-path-as-family", "CWE-22", "RC602", starts_from(code("config.json", model_type="../../modeling"))),
    Attack(
        "config-name-elsewhere",
        "CWE-610",
        DONE,
        starts_from(keys("config.json", _name_or_path="/etc", name_or_path="http://127.0.0.1:1/")),
    ),
    Attack("config-million-layers", "CWE-770", "RC735", starts_from(keys("config.json", num_hidden_layers=10**6))),
    Attack(
        "config-giant-vocabulary", "CWE-789", "RC723", starts_from(keys("config.json", vocab_size=10**9)), memory=400
    ),
    Attack("config-giant-width", "CWE-789", "RC723", starts_from(keys("config.json", intermediate_size=10**10))),
    Attack("config-zero-heads", "CWE-369", "RC735", starts_from(keys("config.json", num_attention_heads=0))),
    Attack("config-labels", "CWE-789", "RC735", starts_from(keys("config.json", num_labels=10**9))),
    Attack("config-negative-layers", "CWE-1284", "RC723", starts_from(keys("config.json", num_hidden_layers=-1))),
    Attack(
        "config-rope-code",
        "CWE-95",
        "RC723",
        starts_from(keys("config.json", rope_scaling={"rope_type": "__import__('os')", "factor": 2})),
    ),
    Attack(
        "config-activation-code",
        "CWE-95",
        "RC723",
        starts_from(keys("config.json", hidden_act="__import__('os').system")),
    ),
    Attack("config-dtype-code", "CWE-95", "RC735", starts_from(keys("config.json", dtype="load"))),
    Attack("config-positions", "CWE-789", DONE, starts_from(keys("config.json", max_position_embeddings=10**12))),
    Attack("config-escape", "CWE-150", "RC602", starts_from(keys("config.json", model_type="\x1b]0;x\x07\r\nforged"))),
    Attack(
        "quantization-code",
        "CVE-2024-11394",
        "RC734",
        starts_from(keys("config.json", quantization_config={"quant_method": "\x1b[2Jgptq", "modules": "os.system"})),
    ),
    Attack(
        "generation-weird",
        "CWE-20",
        DONE,
        starts_from(keys("generation_config.json", temperature=-1e30, top_k=-5, max_length="x", bad_words_ids=[[[1]]])),
    ),
    Attack(
        "generation-end-elsewhere", "CWE-20", "RC735", starts_from(keys("generation_config.json", eos_token_id=[10**9]))
    ),
    Attack(
        "tokenizer-auto-map",
        "CVE-2025-66448",
        "RC600",
        starts_from(code("tokenizer_config.json", auto_map={"AutoTokenizer": ["tokenization.X", None]})),
    ),
    Attack(
        "tokenizer-class-code",
        "CWE-470",
        DONE,
        starts_from(code("tokenizer_config.json", tokenizer_class="os.system")),
    ),
    Attack(
        "tokenizer-file-elsewhere",
        "CWE-73",
        DONE,
        starts_from(keys("tokenizer_config.json", tokenizer_file="/etc/passwd", vocab_file="/etc/passwd")),
    ),
    Attack(
        "tokenizer-added-object",
        "CWE-502",
        DONE,
        starts_from(keys("tokenizer_config.json", added_tokens_decoder={"0": {"__type": "os.system", "content": "x"}})),
    ),
    Attack("tokenizer-deep", "CWE-674", "RC735", starts_from(put("tokenizer.json", '{"model":' * 100_000))),
    Attack(
        "tokenizer-regex-bomb",
        "CVE-2024-12720",
        "RC735",
        starts_from(split_by("(a+)+$"), data=rows({"prompt": "a" * 40 + "!", "completion": "b"})),
    ),
    Attack("tokenizer-regex-broken", "CWE-185", "RC735", starts_from(split_by("(((("))),
    Attack("tokenizer-expands", "CWE-409", "RC735", starts_from(expands(6))),
    Attack("tokenizer-shadows-letter", "CWE-1427", DONE, starts_from(shadows("a"))),
    Attack("tokenizer-shadows-end", "CWE-1427", "RC725", starts_from(shadows("c1"))),
    Attack("tokenizer-many-tokens", "CWE-400", "RC725", starts_from(tokenizer(many_tokens)), seconds=20, memory=500),
    Attack("tokenizer-empty-token", "CWE-835", DONE, starts_from(shadows(""))),
    Attack(
        "tokenizer-id-overflow",
        "CWE-190",
        "RC735",
        starts_from(tokenizer(lambda found: found["added_tokens"][0].update(id=2**33))),
    ),
    Attack(
        "tokenizer-sentencepiece", "CWE-502", "RC735", starts_from(put("tokenizer.model", PICKLE, "tokenizer.json"))
    ),
    Attack(
        "tokenizer-processor-code",
        "CWE-829",
        DONE,
        starts_from(put("processor_config.json", '{"processor_class": "X"}')),
    ),
    Attack("adapter-pickle", "CVE-2025-32434", "RC603", starts_from(adapter(), _ADAPT)),
    Attack(
        "adapter-code-key",
        "CVE-2026-5241",
        "RC604",
        starts_from(adapter(megatron_core="evil.module", megatron_config={"a": 1}), _ADAPT),
    ),
    Attack(
        "adapter-auto-mapping",
        "CWE-470",
        "RC603",
        starts_from(adapter(auto_mapping={"base_model_class": "X", "parent_library": "evil"}), _ADAPT),
    ),
    Attack("adapter-regex-bomb", "CWE-1333", "RC732", starts_from(regex_adapter("(.*.*.*.*.*.*.*.*)*z"), _ADAPT)),
    Attack(
        "adapter-base-parent", "CWE-22", "RC603", starts_from(adapter(base_model_name_or_path="../../../etc"), _ADAPT)
    ),
    Attack(
        "adapter-base-address",
        "CWE-918",
        "RC603",
        starts_from(adapter(base_model_name_or_path="http://127.0.0.1:1/"), _ADAPT),
    ),
]
