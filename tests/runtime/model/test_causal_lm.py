"""The policy: text and control tokens, what it saves, how it continues, and what it refuses to load."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from support.policies import dense_policy
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from recipec.diagnostics.model import RecipeError
from recipec.runtime.context import StageContext
from recipec.runtime.model.causal_lm import CausalLm
from recipec.runtime.model.logprob_head import compute_in_float32
from recipec.runtime.model.origin import Origin
from recipec.runtime.training.local_engine import LocalEngine
from recipec.runtime.training.optimizer import AdamW
from recipec.spec import policy as specs, train_engine
from recipec.spec.optimizer import Adamw

SCRATCH = specs.Scratch(hidden_size=32, layers=2, heads=4, kv_heads=2, max_positions=64)
LORA = specs.Lora(r=4)
NEW = Origin("scratch")


def make(root: Path, origin: Origin = NEW, **params) -> CausalLm:
    """Build or load a policy."""
    spec = specs.CausalLm(**({"scratch": SCRATCH} if origin.kind == "scratch" else {}), **params)
    return dense_policy(spec, StageContext(root=root, cache=root / "cache", seed=0, stage="s", temperature=0.7), origin)


def saved(root: Path, **params) -> Path:
    """Save a new policy; return its folder."""
    make(root, **params).save(root / "model")
    return root / "model"


def code(root: Path, origin: Origin, **params) -> str:
    """Return the code with which an origin is refused."""
    with pytest.raises(RecipeError) as refused:
        make(root, origin, **params)
    return refused.value.diagnostics[0].code


def rows() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return two rows, the second one shorter."""
    tokens = torch.arange(12).view(2, 6) * 7 % 90 + 4
    attend = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    return tokens, attend, attend & (torch.arange(6) > 1)


def train(policy: CausalLm, steps: int = 2) -> None:
    """Take a few large steps."""
    optimizer = torch.optim.SGD(policy.trainable_parameters().values(), lr=1.0)
    for _ in range(steps):
        (-policy(*rows())["logprob_RT"].sum()).backward()
        optimizer.step()
        optimizer.zero_grad()


def test_text_never_becomes_a_control_token(tmp_path):
    """A user who writes `<eos>` gets letters, alone and inside messages; only the template ends a turn."""
    policy = make(tmp_path)
    assert policy.eos_id not in policy.encode("<eos>")
    assert policy.decode(policy.encode("<eos>")) == "<eos>"
    ids = policy.render([{"role": "user", "content": "a<eos><bos>b"}])
    assert ids.count(policy.eos_id) == 1
    plain = policy.render([{"role": "user", "content": "ab"}])
    assert policy.decode(ids) == policy.decode(plain).replace("ab", "a<eos><bos>b")


def test_render_is_the_template_with_or_without_an_open_answer(tmp_path):
    """Rendered messages are the template's text with its control tokens as ids."""
    policy = make(tmp_path)
    closed = policy.render([{"role": "user", "content": "hi"}], generation=False)
    expected = policy.tokenizer("<bos>user\nhi<eos>", add_special_tokens=False).input_ids
    assert closed == expected
    assert policy.render([{"role": "user", "content": "hi"}])[len(closed) :] == (
        policy.tokenizer("<bos>assistant\n", add_special_tokens=False).input_ids
    )


def test_chat_templates_are_sandboxed_and_checked(tmp_path):
    """A template that reaches for Python's insides, one that objects, and none at all each have a code."""
    messages = [{"role": "user", "content": "hi"}]
    (tmp_path / "evil.jinja").write_text("{{ ''.__class__.__mro__[1].__subclasses__() }}")
    (tmp_path / "strict.jinja").write_text("{{ raise_exception('no user turns here') }}")
    for name in ("evil.jinja", "strict.jinja"):
        with pytest.raises(RecipeError) as refused:
            make(tmp_path, chat_template=name).render(messages)
        assert refused.value.diagnostics[0].code == "RC730"
    policy = make(tmp_path)
    policy.tokenizer.chat_template = None
    with pytest.raises(RecipeError) as refused:
        policy.render(messages)
    assert refused.value.diagnostics[0].code == "RC729"
    assert code(tmp_path, NEW, chat_template="absent.jinja") == "RC730"


def test_another_token_ends_a_text_where_the_recipe_says_so(tmp_path):
    """It stops sampling next to the model's own, is what a template writes, and is saved; an unknown one is refused."""
    named, unknown, template = "<bos>", "<|im_end|>", "{{ messages[0].content }}{{ eos_token }}"
    usual, policy = make(tmp_path), make(tmp_path, eos_token=named, chat_template=template)
    assert policy.eos_id == usual.tokenizer.bos_token_id
    assert set(policy.stop_ids) == {policy.eos_id, usual.eos_id}
    assert policy.render([{"role": "user", "content": "hi"}])[-1] == policy.eos_id
    policy.save(tmp_path / "ended")
    assert AutoTokenizer.from_pretrained(tmp_path / "ended").eos_token == named
    assert code(tmp_path, NEW, eos_token=unknown) == "RC724"


def test_columns(tmp_path):
    """Log-probabilities are float32, differentiable, 0 where not trained; entropy only when asked."""
    policy = make(tmp_path, dtype="bfloat16")
    tokens, attend, trained = rows()
    made = policy.logprobs(tokens, attend, trained, entropy=False)
    assert set(made) == {"logprob_RT"}
    made = policy(tokens, attend, trained)
    for column in made.values():
        assert column.dtype == torch.float32
        assert column.requires_grad
        assert torch.equal(column != 0, trained)


def test_sums_of_squared_probabilities(tmp_path):
    """They are those of the whole distribution before each trained token, at its temperature, without gradient."""
    policy = make(tmp_path)
    policy.temperature = 0.7
    tokens, attend, trained = rows()
    made = policy.logprobs(tokens, attend, trained, collision=True)
    assert set(made) == {"logprob_RT", "collision_RT"}
    assert not made["collision_RT"].requires_grad
    for row in range(len(tokens)):
        length = int(attend[row].sum())
        probabilities = (policy.model(tokens[row : row + 1, :length]).logits[0] / 0.7).softmax(-1)
        expected = torch.where(trained[row, 1:length], probabilities.square().sum(-1)[:-1], 0.0)
        torch.testing.assert_close(made["collision_RT"][row, 1:length], expected)
        assert not made["collision_RT"][row, length:].any()
    assert torch.equal(made["logprob_RT"], policy.logprobs(tokens, attend, trained)["logprob_RT"])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_saved_policy_loads_with_transformers(tmp_path, dtype):
    """The folder alone gives the same weights to `from_pretrained` and to us, and the tokenizer its ids."""
    policy = make(tmp_path, dtype=dtype)
    train(policy, 1)
    policy.save(tmp_path / "model")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype="auto")
    assert all(torch.equal(loaded.state_dict()[n], t) for n, t in policy.model.state_dict().items())
    assert AutoTokenizer.from_pretrained(tmp_path / "model").eos_token_id == policy.eos_id
    assert make(tmp_path, Origin("directory", "./model"), dtype=dtype).fingerprint() == policy.fingerprint()


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_a_saved_adapter_loads_with_transformers_and_peft(tmp_path, architecture):
    """The folder holds base and adapter: transformers loads both, peft the adapter onto the base."""
    scratch = specs.Scratch(architecture=architecture, hidden_size=32, layers=2, heads=4, max_positions=64)
    spec = specs.CausalLm(scratch=scratch, lora=LORA)
    policy = dense_policy(spec, StageContext(root=tmp_path, cache=tmp_path, seed=0, stage="s", temperature=0.7))
    assert all("lora_" in name for name in policy.trainable_parameters())
    train(policy)
    folder = tmp_path / "model"
    policy.save(folder)
    tokens = rows()[0]
    expected = policy.model(tokens).logits
    assert torch.allclose(AutoModelForCausalLM.from_pretrained(folder)(tokens).logits, expected, atol=1e-5)
    assert not [*folder.glob("model*.safetensors")]  # a converter or server must not take the base for the model
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] is None
    shutil.copytree(folder, tmp_path / "base", ignore=shutil.ignore_patterns("adapter*"))
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    assert not torch.allclose(base(tokens).logits, expected, atol=1e-2)
    assert torch.allclose(PeftModel.from_pretrained(base, folder)(tokens).logits, expected, atol=1e-5)


def test_an_adapter_is_continued_or_merged(tmp_path):
    """Continued, the same adapter is trained; merged, all weights are, or a new adapter; the policy is the same."""
    parent = make(tmp_path, lora=LORA)
    train(parent)
    parent.save(tmp_path / "model")
    expected = parent(*rows())["logprob_RT"]
    continued = make(tmp_path, Origin("directory", "./model", adapter="continue"), lora=LORA)
    merged = make(tmp_path, Origin("directory", "./model", adapter="merge"))
    again = make(tmp_path, Origin("directory", "./model", adapter="merge"), lora=specs.Lora(r=2))
    assert torch.equal(continued(*rows())["logprob_RT"], expected)
    assert continued.trainable_parameters().keys() == parent.trainable_parameters().keys()
    assert not continued.adapter_is_new
    assert torch.allclose(merged(*rows())["logprob_RT"], expected, atol=1e-5)
    assert set(merged.trainable_parameters()) == {name for name, _ in merged.model.named_parameters()}
    assert torch.allclose(again(*rows())["logprob_RT"], expected, atol=1e-5)
    assert again.adapter_is_new
    elsewhere = Origin("directory", "./base", adapter="continue", adapter_path=tmp_path / "model")
    make(tmp_path).save(tmp_path / "base")
    assert torch.equal(make(tmp_path, elsewhere)(*rows())["logprob_RT"], expected)


def test_a_second_generation_of_an_adapter_is_saved(tmp_path):
    """Continue, train, save, load: the chain of stages keeps base and adapter apart."""
    first = make(tmp_path, lora=LORA)
    train(first)
    first.save(tmp_path / "one")
    second = make(tmp_path, Origin("directory", "./one", adapter="continue"))
    train(second)
    second.save(tmp_path / "two")
    third = make(tmp_path, Origin("directory", "./two", adapter="continue"))
    assert third.fingerprint() == second.fingerprint()
    one, two = (load_file(tmp_path / name / "base/weights-00000.safetensors").keys() for name in ("one", "two"))
    assert one == two


@pytest.mark.parametrize("lora", [None, specs.Lora(r=4, dropout=0.1)])
def test_a_loaded_state_continues_with_the_same_bits(tmp_path, lora):
    """Saved after two updates and loaded into a new policy, two more give the bits of four; dropout included."""
    params = {"lora": lora, "dropout": 0.1}
    whole, first, second = make(tmp_path, **params), make(tmp_path, **params), make(tmp_path, **params)
    for policy in (whole, first, second):
        policy.train()
    train(whole, 4)
    train(first, 2)
    state = first.state()
    assert state["weights"].keys() == first.trainable_parameters().keys()
    torch.manual_seed(99)
    second.load(state)
    train(second, 2)
    assert second.fingerprint() == whole.fingerprint()


def test_dropout_only_while_training(tmp_path):
    """Two passes differ while training and are equal in evaluation; global draws stay untouched."""
    policy = make(tmp_path, dropout=0.3)
    before = torch.get_rng_state()
    policy.train()
    assert not torch.equal(policy(*rows())["logprob_RT"], policy(*rows())["logprob_RT"])
    policy.eval()
    assert torch.equal(policy(*rows())["logprob_RT"], policy(*rows())["logprob_RT"])
    assert torch.equal(torch.get_rng_state(), before)


def test_gradients_do_not_pass_to_what_is_frozen(tmp_path):
    """With an adapter the weights under it get no gradient."""
    policy = make(tmp_path, lora=LORA)
    policy(*rows())["logprob_RT"].sum().backward()
    assert all((p.grad is not None) == ("lora_" in n) for n, p in policy.model.named_parameters())


def edit(file: Path, **changes) -> None:
    """Change keys of a JSON file; None removes one."""
    found = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({k: v for k, v in found.items() if v is not None}))


@pytest.mark.parametrize(
    ("file", "changes", "expected"),
    [
        ("config.json", {"auto_map": {"AutoModelForCausalLM": "modeling_x.X"}}, "RC600"),
        ("config.json", {"text_config": {"auto_map": {"AutoConfig": "x.X"}}}, "RC600"),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["x.X", None]}}, "RC600"),
        ("config.json", {"_attn_implementation": "someone/kernel"}, "RC600"),
        ("config.json", {"_attn_implementation_internal": "someone/kernel"}, "RC600"),
        ("config.json", {"model_type": "my_llama"}, "RC602"),
        ("config.json", {"model_type": "t5"}, "RC602"),
        ("config.json", {"model_type": None}, "RC602"),
        ("config.json", {"model_type": ["llama"]}, "RC602"),
        ("config.json", {"quantization_config": "x"}, "RC734"),
        ("config.json", {"quantization_config": {"quant_method": "gptq"}}, "RC734"),
        ("config.json", {"num_hidden_layers": 3}, "RC723"),
        ("config.json", {"hidden_size": 64}, "RC723"),
        ("config.json", {"vocab_size": 50}, "RC723"),
        ("config.json", {"num_attention_heads": "many"}, "RC735"),
        ("tokenizer_config.json", {"eos_token": None}, "RC724"),
    ],
)
def test_descriptions_that_are_refused(tmp_path, file, changes, expected):
    """What would run code, what is unknown and what does not fit is a coded fault before or while it is loaded."""
    edit(saved(tmp_path) / file, **changes)
    assert code(tmp_path, Origin("directory", "./model")) == expected


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("config.json", None, "RC722"),
        ("config.json", b"{", "RC735"),
        ("config.json", b"[1]", "RC735"),
        ("config.json", b"\xff\xfe", "RC735"),
        ("model.safetensors", None, "RC722"),
        ("model.safetensors", b"", "RC723"),
        ("model.safetensors", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      trailing", "RC723"),
        ("tokenizer.json", None, "RC722"),
        ("tokenizer.json", b'{"version": "1.0"}', "RC735"),
        ("tokenizer.json", b"not json", "RC735"),
        ("model.safetensors.index.json", b'{"weight_map": {"a": "model-2-of-2.safetensors"}}', "RC722"),
        ("model.safetensors.index.json", b'{"weight_map": {"a": "../model.safetensors"}}', "RC722"),
        ("model.safetensors.index.json", b"{}", "RC735"),
    ],
)
def test_files_that_are_missing_or_damaged(tmp_path, file, content, expected):
    """Every file of a model can be gone or broken: a code, never a traceback."""
    path = saved(tmp_path) / file
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    assert code(tmp_path, Origin("directory", "./model")) == expected


def test_a_cut_off_weight_file_is_refused(tmp_path):
    """Half a safetensors file is damaged, not short."""
    file = saved(tmp_path) / "model.safetensors"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert code(tmp_path, Origin("directory", "./model")) == "RC723"


def test_pickles_are_never_opened(tmp_path):
    """A model with only a pickle is refused; so is an adapter."""
    folder = saved(tmp_path)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert code(tmp_path, Origin("directory", "./model")) == "RC603"
    make(tmp_path, lora=LORA).save(tmp_path / "adapted")
    (tmp_path / "adapted/adapter_model.safetensors").rename(tmp_path / "adapted/adapter_model.bin")
    assert code(tmp_path, Origin("directory", "./adapted", adapter="continue")) == "RC603"


@pytest.mark.parametrize("adapter", ["continue", "merge"])
@pytest.mark.parametrize("begun", ["pissa", "pissa_niter_4", "olora", "corda", "loftq", "lora_ga"])
def test_adapters_that_belong_to_changed_weights_are_refused(tmp_path, begun, adapter):
    """They are trained on weights from which a part was taken when they were begun, which the model still has."""
    make(tmp_path, lora=LORA).save(tmp_path / "adapted")
    edit(tmp_path / "adapted/adapter_config.json", init_lora_weights=begun)
    assert code(tmp_path, Origin("directory", "./adapted", adapter=adapter)) == "RC604"
    edit(tmp_path / "adapted/adapter_config.json", init_lora_weights="gaussian")
    make(tmp_path, Origin("directory", "./adapted", adapter=adapter))


def test_a_model_that_looks_ahead_is_refused(tmp_path):
    """An encoder under the name of a causal model would be scored by what comes after: it is tried, not believed."""
    folder = saved(tmp_path)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    for ahead in (True, False):
        config = AutoConfig.for_model("bert", vocab_size=100, is_decoder=not ahead, **sizes)
        model = AutoModelForCausalLM.from_config(config)
        for parameter in model.parameters():
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
        model.save_pretrained(folder)
        if ahead:
            assert code(tmp_path, Origin("directory", "./model")) == "RC602"
        else:
            make(tmp_path, Origin("directory", "./model"))


def test_more_tokens_than_embeddings_are_refused(tmp_path):
    """A tokenizer that grew while the model did not would fail in the middle of a run."""
    folder = saved(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<more>"])
    tokenizer.save_pretrained(folder)
    assert code(tmp_path, Origin("directory", "./model")) == "RC725"


def test_missing_directories_and_the_hub_without_a_network(tmp_path):
    """A wrong path and an unreachable or misspelt hub name each have a code."""
    assert code(tmp_path, Origin("directory", "./absent")) == "RC721"
    assert code(tmp_path, Origin("hub", "someone/surely-not-cached@main")) == "RC726"
    assert code(tmp_path, Origin("hub", "some one/bad name")) == "RC726"


def test_adapters_that_do_not_fit_are_refused(tmp_path):
    """Undecided, absent, of another rank, of another model, with keys beyond LoRA, with targets that match nothing."""
    make(tmp_path, lora=LORA).save(tmp_path / "adapted")
    make(tmp_path).save(tmp_path / "plain")
    adapted = Origin("directory", "./adapted", adapter="continue")
    assert code(tmp_path, Origin("directory", "./adapted")) == "RC733"
    assert code(tmp_path, Origin("directory", "./plain", adapter="merge")) == "RC733"
    assert code(tmp_path, adapted, lora=specs.Lora(r=8)) == "RC732"
    assert code(tmp_path, NEW, lora=specs.Lora(targets=("no_such_layer",))) == "RC732"
    config = tmp_path / "adapted/adapter_config.json"
    kept = config.read_text()
    for key, value in (("megatron_config", {"a": 1}), ("use_dora", True), ("peft_type", "IA3"), ("surprise", 1)):
        edit(config, **{key: value})
        assert code(tmp_path, adapted) == "RC604"
        config.write_text(kept)
    edit(config, r=8)
    assert code(tmp_path, adapted) in {"RC723", "RC732"}
    config.write_text(kept)
    weights = load_file(tmp_path / "adapted/adapter_model.safetensors")
    weights.popitem()
    save_file(weights, tmp_path / "adapted/adapter_model.safetensors")
    assert code(tmp_path, adapted) == "RC732"


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gpt2"])
def test_the_next_stage_reads_the_same_tokens(tmp_path, architecture):
    """What a stage saves, the next one encodes alike, characters outside the vocabulary included."""
    scratch = specs.Scratch(architecture=architecture, hidden_size=32, layers=1, heads=4)
    first = CausalLm(specs.CausalLm(scratch=scratch), StageContext(tmp_path, tmp_path, 0, "s"), NEW)
    first.save(tmp_path / "model")
    second = make(tmp_path, Origin("directory", "./model"))
    for text in ("2 + 2 = 4\n", "é", "a世b", "<eos> <unk>"):
        assert second.encode(text) == first.encode(text)
        assert second.decode(second.encode(text)) == first.decode(first.encode(text))


def test_rows_beyond_the_positions_are_refused(tmp_path):
    """A row of all positions is scored; one token more is a coded fault."""
    policy = make(tmp_path)
    tokens = torch.full((1, 65), 9)
    attend = torch.ones_like(tokens, dtype=torch.bool)
    policy(tokens[:, :64], attend[:, :64], attend[:, :64])
    with pytest.raises(RecipeError) as refused:
        policy(tokens, attend, attend)
    assert refused.value.diagnostics[0].code == "RC736"


def test_ends_and_limits(tmp_path):
    """Stop ids join the tokenizer's and the generation config's; the rest comes from the configuration."""
    folder = saved(tmp_path)
    edit(folder / "generation_config.json", eos_token_id=[2, 9])
    policy = make(tmp_path, Origin("directory", "./model"))
    assert policy.stop_ids == (2, 9)
    assert (policy.eos_id, policy.pad_id, policy.max_positions, policy.vocabulary) == (2, 0, 64, 100)


def test_the_engine_checkpoints_activations_when_told(tmp_path):
    """`machine.train.gradient_checkpointing` reaches the model, and changes no gradient."""
    policy = make(tmp_path, lora=LORA)
    policy.train()
    found = []
    for told in (False, True):
        optimizer = AdamW(Adamw(), policy.context, policy=policy)
        engine = train_engine.Local(gradient_checkpointing=told)
        LocalEngine(engine, policy.context, policy=policy, optimizer=optimizer)
        assert policy.model.is_gradient_checkpointing == told
        policy(*rows())["logprob_RT"].sum().backward()
        found.append([p.grad.clone() for p in policy.trainable_parameters().values()])
        policy.model.zero_grad()
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    assert any(grad.any() for grad in found[0])


@pytest.mark.parametrize("tied", [True, False])
def test_logits_in_float32(tmp_path, tied):
    """The output layer multiplies in float32, for scoring and for sampling; weights and gradients stay bfloat16."""
    tokens, attend, trained = rows()
    scratch = specs.Scratch(hidden_size=32, layers=2, heads=4, max_positions=64, tie_embeddings=tied)
    policies = [
        dense_policy(
            specs.CausalLm(scratch=scratch, dtype="bfloat16", head_dtype=head),
            StageContext(root=tmp_path, cache=tmp_path, seed=0, stage="s"),
        )
        for head in (None, "float32")
    ]
    narrow, wide = (policy(tokens, attend, trained)["logprob_RT"] for policy in policies)
    assert not torch.equal(narrow, wide)
    model = policies[1].model
    weight = model.get_output_embeddings().weight
    with torch.no_grad():
        hidden = model.model(input_ids=tokens, attention_mask=attend).last_hidden_state
        logprob = torch.log_softmax(hidden.float() @ weight.float().T, -1)
    expected = logprob[:, :-1].gather(2, tokens[:, 1:, None])[..., 0]
    torch.testing.assert_close(wide[:, 1:][trained[:, 1:]], expected[trained[:, 1:]], atol=1e-5, rtol=1e-5)
    assert model(input_ids=tokens).logits.dtype == torch.float32
    wide.sum().backward()
    assert weight.grad.dtype == weight.dtype == torch.bfloat16
    assert model.state_dict().keys() == policies[0].model.state_dict().keys()


def test_a_head_that_is_not_linear():
    """RC890: there is no weight to multiply by."""
    with pytest.raises(RecipeError) as refused:
        compute_in_float32(SimpleNamespace(get_output_embeddings=torch.nn.Identity), "org/odd")
    assert refused.value.diagnostics[0].code == "RC890"
