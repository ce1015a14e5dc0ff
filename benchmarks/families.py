"""Certify prefix-tree attention for every causal model type of the installed transformers.

    python benchmarks/families.py --write docs/attention.md

The default configuration of each type is reduced in size and certified like a policy with attention `trie`: a random
model scores the rows of a tree one by one and as a prefix tree, in float32.  Sizes that a configuration does not set
are filled with small ones.  The text of the page above the marker stays; the table below it is replaced.
"""

from __future__ import annotations

import argparse
import logging
import math
import warnings
from collections import defaultdict
from pathlib import Path

import torch
import transformers
from transformers import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from recipec.runtime.attention.certification.run import Certificate, certify
from recipec.runtime.attention.certification.tiny_config import SIZES, shrink

MARK = "<!-- below: python benchmarks/families.py --write docs/attention.md -->"


def one(name: str) -> Certificate:
    """Certify the default configuration of a type; unset sizes are filled if the model cannot be built without them."""
    try:
        found = certify(shrink(CONFIG_MAPPING[name]()))
        if found.equal or not math.isnan(found.max_logprob_error):
            return found
        config = CONFIG_MAPPING[name]()
        text = config.get_text_config()
        for key, size in {**SIZES, "num_key_value_heads": 4}.items():
            if hasattr(text, key) and getattr(text, key) is None and not key.endswith(("window", "chunk_size")):
                setattr(text, key, size)
        if getattr(text, "layer_types", "") is None:
            text.layer_types = [("conv", "full_attention")[i % 2] for i in range(text.num_hidden_layers)]
        return certify(shrink(config))
    except Exception as error:  # noqa: BLE001 - each family validates its own keys with its own exceptions
        return Certificate(equal=False, why=f"no small model of its kind: {str(error).strip().partition(chr(10))[0]}")


def table(found: dict[str, Certificate]) -> list[str]:
    """Return the lines of the page: a summary, the certified types, and the refused ones with reasons."""
    equal = {name: one for name, one in found.items() if one.equal}
    worst = max(equal.values(), key=lambda one: one.max_logprob_error).max_logprob_error
    steepest = max(equal.values(), key=lambda one: one.max_gradient_error).max_gradient_error
    lines = [
        f"Measured with torch {torch.__version__} and transformers {transformers.__version__}, in float32:",
        f"**{len(equal)} of {len(found)}** causal model types certify.",
        f"The largest error of a log-probability is {worst:.1e} nats, that of a gradient {steepest:.1e} of its norm.",
        f"{sum(one.hands_over for one in equal.values())} of them hand prefixes over between forward passes.",
        "",
        "| model type | log-probability error, nats | gradient error, relative |",
        "|---|---|---|",
        *(f"| {name} | {one.max_logprob_error:.1e} | {one.max_gradient_error:.1e} |" for name, one in equal.items()),
        "",
        "Refused with RC830, with the reason:",
        "",
    ]
    reasons = defaultdict(list)
    for name, verdict in found.items():
        if not verdict.equal:
            reasons[verdict.why.replace("|", "/")].append(name)
    lines += [f"- {', '.join(names)}: {why}" for why, names in sorted(reasons.items(), key=lambda r: -len(r[1]))]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="model types; all if absent")
    parser.add_argument("--write", type=Path)
    asked = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    found = {}
    for name in asked.names or sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES):
        found[name] = one(name)
        print(f"{name:24} {'equal' if found[name].equal else found[name].why}", flush=True)
    if asked.write:
        before = asked.write.read_text("utf-8").partition(MARK)[0]
        asked.write.write_text("\n".join([f"{before}{MARK}", "", *table(found)]) + "\n", "utf-8")


if __name__ == "__main__":
    main()
