"""Write the rows for dermiq_vlm.yaml next to this file, from a folder with one folder of images per disease.

    python recipes/dermiq/data/make.py PICTURES [EACH HELD_OUT]

    PICTURES/melanoma/0001.jpg
    PICTURES/psoriasis/0001.jpg
    ...

The folders are named after the eight diseases; spaces, hyphens and underscores are equivalent.  For each disease, EACH
images (100) are drawn with seed 42 for training, and HELD_OUT others (25) for evaluation; they are copied to pictures/.
Writes recognise.jsonl, held_out.jsonl and align.jsonl.  You provide conversations and the graph: see ../README.md.
"""  # noqa: INP001

from __future__ import annotations

import json
import random
import re
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).parent
DISEASES = (
    "actinic keratosis",
    "basal cell carcinoma",
    "dermatitis",
    "lichen planus",
    "melanoma",
    "psoriasis",
    "rosacea",
    "seborrheic keratosis",
)
ENDINGS = {".jpg", ".jpeg", ".png"}
QUESTIONS = ("What is this, and what are its signs?", "What causes this?", "How is this treated?")


def pictures(folder: Path) -> dict[str, list[Path]]:
    """Return the images of each disease, sorted by name."""
    named = {re.sub(r"[\s_-]+", " ", path.name).strip().lower(): path for path in folder.iterdir() if path.is_dir()}
    missing = [disease for disease in DISEASES if disease not in named]
    if missing:
        sys.exit(f"{folder} has no folder for: {', '.join(missing)}")
    return {d: sorted(p for p in named[d].rglob("*") if p.suffix.lower() in ENDINGS) for d in DISEASES}


def draw(found: dict[str, list[Path]], each: int, held_out: int) -> dict[str, list[tuple[str, Path]]]:
    """Draw images of every disease for each file."""
    drawn: dict[str, list[tuple[str, Path]]] = {"recognise": [], "held_out": []}
    luck = random.Random(42)  # noqa: S311 - data, no secret
    for disease, paths in found.items():
        if len(paths) < each + held_out:
            sys.exit(f"{disease} has {len(paths)} pictures, {each + held_out} are needed")
        chosen = luck.sample(paths, each + held_out)
        drawn["recognise"] += [(disease, path) for path in chosen[:each]]
        drawn["held_out"] += [(disease, path) for path in chosen[each:]]
    for rows in drawn.values():
        luck.shuffle(rows)
    return drawn


def copied(name: str, number: int, path: Path, home: Path) -> str:
    """Copy an image into the data folder; return its path as the rows give it."""
    place = home / "pictures" / name / f"{number:05d}{path.suffix.lower()}"
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, place)
    return str(place.relative_to(home))


def main(folder: Path, each: int = 100, held_out: int = 25, home: Path = HERE) -> None:
    """Write the rows as JSON lines."""
    files: dict[str, list[dict[str, str]]] = {}
    for name, rows in draw(pictures(folder), each, held_out).items():
        files[name] = [{"image": copied(name, i, path, home), "disease": d} for i, (d, path) in enumerate(rows)]
    files["align"] = [{**row, "question": QUESTIONS[i % 3]} for i, row in enumerate(files["recognise"])]
    for name, made in files.items():
        text = "".join(json.dumps(row) + "\n" for row in made)
        (home / f"{name}.jsonl").write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
