"""Check the ids of conversations: every tokenizer family, marker, chat template and shape of a row in the tests.

Counts what was checked, what was refused and by which code, and what failed; ends with 1 if anything failed.

    python benchmarks/encoding.py [--families gpt2,spm_first]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from support.chat_templates import TEMPLATES
from support.encoding_corpus import SHAPES, check, policy_of
from support.tokenizer_families import FAMILIES, STRIPS


def main() -> int:
    """Check every combination, and print counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--families", default=",".join(FAMILIES))
    families = parser.parse_args().families.split(",")
    begun, counts, codes = time.monotonic(), Counter[str](), Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        for template, (_, marks) in TEMPLATES.items():
            for family in families:
                for strip in STRIPS if marks else ("",):
                    policy = policy_of(family, template, strip)
                    for shape in SHAPES:
                        counts["checked"] += 1
                        try:
                            refused = check(folder, policy, template, shape)
                        except Exception as error:  # noqa: BLE001 - every failure is counted
                            counts["failed"] += 1
                            print(family, template, strip, shape, repr(error)[:120])
                        else:
                            counts["refused"] += refused is not None
                            codes[refused.code if refused else "none"] += 1
    print(dict(counts), dict(codes), f"{time.monotonic() - begun:.0f} s")
    return int(counts["failed"] > 0)


if __name__ == "__main__":
    sys.exit(main())
