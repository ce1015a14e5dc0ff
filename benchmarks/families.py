"""Which decoders compute shared prefixes as they compute rows: every causal model type of the installed transformers.

    python benchmarks/families.py --write docs/attention.md

Each type's default configuration is shrunk and certified as a policy would be when attention `trie` is bound to it: a
random model scores a tree row by row and as a forest, in float32.  What a configuration leaves open is filled with
small sizes.  The page's text above the marker stays; the table below it is written anew.
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
from recipec.runtime.attention.certification.tiny_config import _SIZES, shrunk

MARK = "<!-- below: python benchmarks/families.py --write docs/attention.md -->"


def one(name: str) -> Certificate:
    """Certify the default configuration of a type; what it leaves open is filled where it must be."""
    try:
        found = certify(shrunk(CONFIG_MAPPING[name]()))
        if found.equal or not math.isnan(found.max_logprob_error):
            return found
        config = CONFIG_MAPPING[name]()
        text = config.get_text_config()
        for key, size in {**_SIZES, "num_key_value_heads": 4}.items():
            if hasattr(text, key) and getattr(text, key) is None and not key.endswith(("window", "chunk_size")):
                setattr(text, key, size)
        if getattr(text, "layer_types", "") is None:
            text.layer_types = [("conv", "full_attention")[i % 2] for i in range(text.num_hidden_layers)]
        return certify(shrunk(config))
    except Exception as error:  # noqa: BLE001 - each family validates its own keys with its own exceptions
        return Certificate(equal=False, why=f"no small model of its kind: {str(error).strip().partition(chr(10))[0]}")


def table(found: dict[str, Certificate]) -> list[str]:
    """Write what was found."""
    equal = {name: one for name, one in found.items() if one.equal}
    worst = max(equal.values(), key=lambda one: one.max_logprob_error).max_logprob_error
    steepest = max(equal.values(), key=lambda one: one.max_gradient_error).max_gradient_error
    lines = [
        f"Measured with torch {torch.__version__}, transformers {transformers.__version__}, in float32:",
        f"**{len(equal)} of {len(found)}** causal model types are certified;",
        f"the worst log-probability is off by {worst:.1e} nat, the worst gradient by {steepest:.1e} of its norm.",
        "",
        "| model type | log-probability | gradient |",
        "|---|---|---|",
        *(f"| {name} | {one.max_logprob_error:.1e} | {one.max_gradient_error:.1e} |" for name, one in equal.items()),
        "",
        "Refused with RC830, and why:",
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
