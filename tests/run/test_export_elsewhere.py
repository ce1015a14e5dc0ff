"""Tools that this project does not start read an export as the trained model: readers of GGUF converters, and vLLM."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support.small_recipes import ROWS, SFT
from transformers import AutoModelForCausalLM

from recipec.runtime.rollout.vllm_engine import ENVIRONMENT

LORA = SFT.replace("      type: causal_lm\n", "      type: causal_lm\n      lora: {r: 2}\n").replace("1.0e-3", "1.0e-1")


def exported(folder):
    """Train an adapter with a rate that moves it far from its base, and export both as one model."""
    sizes = {"heads": 1, "hidden_size": 32}  # vLLM's kernels have no narrower heads
    wide = [word for key in sizes for word in ("--set", f"stages.learn.policy.scratch.{key}={sizes[key]}")]
    assert folder.run(LORA, *wide, a__jsonl=ROWS).code == 0
    assert folder.call("export", "runs/small", "--merge", "--to", "out/model").code == 0
    return folder.path / "out/model"


@pytest.mark.slow
def test_the_reader_of_gguf_converters_finds_the_trained_weights(folder):
    """Each tensor has a name that the converter maps, and the trained value; the vocabulary is read too."""
    gguf = pytest.importorskip("gguf")
    model = exported(folder)
    (file,) = model.glob("model*.safetensors")
    expected = load_file(file)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 1)
    with gguf.utility.SafetensorsLocal(file) as tensors:
        assert tensors.keys() == expected.keys()
        for name, tensor in tensors.items():
            assert names.get_name(name, try_suffixes=(".weight", ".bias")) is not None, name
            read = tensor.mmap_bytes().view(np.float32).reshape(tensor.shape)
            assert np.array_equal(read, expected[name].numpy()), name
    assert gguf.SpecialVocab(model).special_token_ids
    (under,) = (folder.path / "runs/small/stages/learn/policy/base").glob("*.safetensors")
    base = load_file(under)
    trained = [name for name in base if not torch.equal(base[name], expected[name])]
    assert trained, "the export holds the base, not the trained model"


@pytest.mark.engines
@pytest.mark.filterwarnings("ignore")
def test_vllm_serves_the_trained_model(folder, monkeypatch):
    """Greedy tokens and their log-probabilities are those of the exported model in transformers."""
    for name, value in {**ENVIRONMENT, "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}.items():
        monkeypatch.setenv(name, value)
    vllm = pytest.importorskip("vllm")
    path = str(exported(folder))
    prompt, length = [5, 6, 7, 8], 8
    engine = vllm.LLM(path, dtype="float32", enforce_eager=True, max_model_len=32, kv_cache_memory_bytes=1 << 26)
    params = vllm.SamplingParams(temperature=0.0, max_tokens=length, logprobs=1, ignore_eos=True)
    (answer,) = engine.generate({"prompt_token_ids": prompt}, params, use_tqdm=False)
    found = list(answer.outputs[0].token_ids)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    with torch.no_grad():
        logits = model(torch.tensor([prompt + found])).logits[0, len(prompt) - 1 : -1]
    assert found == logits.argmax(-1).tolist()
    reported = [step[token].logprob for step, token in zip(answer.outputs[0].logprobs, found, strict=True)]
    expected = logits.log_softmax(-1).gather(-1, torch.tensor(found)[:, None])[:, 0]
    assert torch.allclose(torch.tensor(reported), expected, atol=1e-4)
