"""Chains: independent completions of each prompt, one group a prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from recipec.runtime.sampler.draw import Sampling
from recipec.runtime.sampler.hf import Completion, Key, Request
from recipec.spec.machine import Hf as HfSpec

if TYPE_CHECKING:
    from recipec.runtime.batch import Task
    from recipec.runtime.setting import Setting
    from recipec.spec.sampler import Chain as Spec


class Engine(Protocol):
    """What every sampling engine can do."""

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        """Write the completions of each request, in order."""


class Chain:
    """Sample a group of completions of every prompt; see :class:`recipec.spec.sampler.Chain`.

    Without an environment an episode is one turn, so that a row is the whole episode under ``rows: step`` as well;
    its state is then the task.
    """

    def __init__(self, spec: Spec, setting: Setting) -> None:
        """Take the knobs and start the engine that the setting names."""
        self.spec = spec
        self.setting = setting
        self.engine = start_engine(setting)
        self.tokens = 0  # prompts and completions, since the stage began
        self.episodes = 0

    def __call__(self, prompt_P: Sequence[Task]) -> dict[str, Any]:
        """Return the rows of the prompts, in order, and statistics under ``metric/``."""
        key = (self.setting.seed, self.setting.stage, self.setting.step)
        sampling = Sampling(
            max_length=self.spec.max_completion_length,
            temperature=self.spec.temperature,
            top_p=self.spec.top_p,
            top_k=self.spec.top_k,
            min_p=self.spec.min_p,
            min_length=self.spec.min_completion_length,
            stop=self.spec.stop,
        )
        groups = sample(self.engine, prompt_P, sampling, self.spec.num_generations, key)
        completions = [completion for group in groups for completion in group]
        signals = rows_of(self.setting, prompt_P, groups)
        rows = len(completions)
        signals["episode_id_R"] += self.episodes
        if self.spec.rows == "step":
            signals["by_episode_R"] = signals["episode_id_R"]
            signals["state_R"] = [str(prompt) for prompt in signals["prompt_id_R"].tolist()]
        self.episodes += rows
        self.tokens += int(signals["attend_RT"].sum())
        return signals | _statistics(completions) | {"metric/num_tokens": self.tokens}

    def state(self) -> dict[str, Any]:
        """Return the counters."""
        return {"tokens": self.tokens, "episodes": self.episodes}

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue counting."""
        self.tokens, self.episodes = int(state["tokens"]), int(state["episodes"])


def start_engine(setting: Setting) -> Engine:
    """Build the sampling engine that the setting names, the embedded one if it names none."""
    spec = setting.rollout if setting.rollout is not None else HfSpec()
    engine: Engine = spec.load()(spec, setting)
    return engine


def sample(engine: Engine, tasks: Sequence[Task], sampling: Sampling, samples: int, key: Key) -> list[list[Completion]]:
    """Write ``samples`` completions of each task; sample ``i`` of task ``t`` draws from ``(*key, t.id, i)``.

    A task that occurs again continues the count, so that no two rows draw the same numbers.
    An evaluation gives a key of its own, such as ``(seed, "evaluate", name)``, and disturbs nothing.
    """
    seen: dict[int, int] = {}
    requests = []
    for task in tasks:
        first = seen.get(task.id, 0)
        seen[task.id] = first + samples
        keys = tuple((*key, task.id, i) for i in range(first, first + samples))
        requests.append(Request(tuple(task.prompt_ids), keys, task.id))
    return engine.generate(requests, sampling)


def rows_of(setting: Setting, prompt_P: Sequence[Task], groups: Sequence[Sequence[Completion]]) -> dict[str, Any]:
    """Lay completions out as rows, group by group: every column that a sampler of trajectories provides."""
    by_prompt = [i for i, group in enumerate(groups) for _ in group]
    completions = [completion for group in groups for completion in group]
    rows = len(completions)
    return {
        **_columns([(prompt_P[i].prompt_ids, c) for i, c in zip(by_prompt, completions, strict=True)]),
        "text_R": texts(setting, completions),
        "by_prompt_R": torch.tensor(by_prompt, dtype=torch.int64),
        "prompt_id_R": torch.tensor([prompt_P[i].id for i in by_prompt], dtype=torch.int64),
        "episode_id_R": torch.arange(rows),
        "step_R": torch.zeros(rows, dtype=torch.int64),
        "error_R": torch.zeros(rows, dtype=torch.bool),
    }


def texts(setting: Setting, completions: Sequence[Completion]) -> list[str]:
    """Decode what was written, special tokens left out."""
    assert setting.policy is not None
    if not completions:
        return []
    found: list[str] = setting.policy.tokenizer.batch_decode(
        [list(c.ids) for c in completions], skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    return found


def _columns(rows: Sequence[tuple[tuple[int, ...], Completion]]) -> dict[str, Tensor]:
    """Pad prompt and completion to the right; what the policy wrote is trained, in turn 1."""
    width = max((len(prompt) + len(completion.ids) for prompt, completion in rows), default=0)
    tokens_RT = np.zeros((len(rows), width), dtype=np.int64)
    logprob_RT = np.zeros((len(rows), width), dtype=np.float32)
    for i, (prompt, completion) in enumerate(rows):
        start, end = len(prompt), len(prompt) + len(completion.ids)
        tokens_RT[i, :start], tokens_RT[i, start:end] = prompt, completion.ids
        logprob_RT[i, start:end] = completion.logprob
    column_T = np.arange(width)[None]
    start_R1 = np.array([len(prompt) for prompt, _ in rows], dtype=np.int64)[:, None]
    end_R1 = np.array([len(prompt) + len(c.ids) for prompt, c in rows], dtype=np.int64)[:, None]
    attend_RT = column_T < end_R1
    trained_RT = attend_RT & (column_T >= start_R1)
    return {
        "tokens_RT": torch.from_numpy(tokens_RT),
        "attend_RT": torch.from_numpy(attend_RT),
        "trained_RT": torch.from_numpy(trained_RT),
        "turn_RT": torch.from_numpy(trained_RT.astype(np.int64)),
        "sampler_logprob_RT": torch.from_numpy(logprob_RT),
    }


def _statistics(completions: Sequence[Completion]) -> dict[str, float]:
    """Lengths in tokens; `terminated` are the rows that ended by themselves, `clipped` the others."""
    found: dict[str, float] = {}
    ended = [len(c.ids) for c in completions if c.ended]
    for name, lengths in {"": [len(c.ids) for c in completions], "terminated_": ended}.items():
        for which, value in (("mean", np.mean), ("min", np.min), ("max", np.max)):
            found[f"metric/completions/{which}_{name}length"] = float(value(lengths)) if lengths else 0.0
    found["metric/completions/clipped_ratio"] = 1.0 - len(ended) / max(1, len(completions))
    return found
