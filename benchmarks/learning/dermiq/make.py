"""Copy the data of the small DermIQ recipe (images, rows, tokenizer) from a folder into the current one."""

import shutil
import sys
from pathlib import Path

if __name__ == "__main__":
    shutil.copytree(sys.argv[1], Path.cwd(), dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    Path("warm.jsonl").rename("demonstrations.jsonl")
