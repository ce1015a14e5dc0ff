"""Run a list of recipes one after the other in this process, which loads torch once; `run.py` starts it.

    python benchmarks/learning/series.py LIST.json

LIST.json has objects with `recipe`, `overrides`, `out` and `use`.  Finished runs are kept, others are continued.
"""

import json
import sys
import time
from pathlib import Path

import recipec


def main() -> None:
    """Run what is not done."""
    for one in json.loads(Path(sys.argv[1]).read_text()):
        if (Path(one["out"]) / "model").exists():
            continue
        began = time.process_time()
        recipec.run(one["recipe"], one["overrides"], out=one["out"], use=one["use"])
        print(
            f"{time.strftime('%H:%M:%S')} {Path(one['out']).name} {time.process_time() - began:.1f} CPU s", flush=True
        )


if __name__ == "__main__":
    main()
