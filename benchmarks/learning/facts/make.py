"""Write questions about countries: each seed draws which countries are trained and which are held out.

    python make.py CORPUS SEED...

The facts are those of the shipped corpus: capitals, currencies and neighbours of its 100 largest countries.
`facts.tsv` is the graph.  The folder of a seed has `train.jsonl` (questions), `sentences.jsonl` (the same with facts
as answers, for SFT), `phrasing.jsonl` (trained facts, other words), `held_out.jsonl` (other countries, the words of the
training) and `retrieved.jsonl` (the held-out questions, each after the facts of its country).
"""

import json
import random
import re
import sys
from pathlib import Path

COUNTRIES, TRAINED, REPHRASED, HELD_OUT = 100, 20, 12, 16
PATTERNS = {
    "capital": re.compile(r"Its capital is ([^.]+)\."),
    "currency": re.compile(r"Its currency is the ([^(]+?) \("),
    "borders": re.compile(r"It borders (?!no other)([^.]+)\."),
}
QUESTIONS = {
    "capital": ("What is the capital of {}?", "Name the city in which the government of {} sits."),
    "currency": ("What is the currency of {}?", "With what money do people pay in {}?"),
    "borders": ("Which country borders {}?", "Name a neighbouring country of {}."),
}
SENTENCES = {
    "capital": "The capital of {} is {}.",
    "currency": "The currency of {} is the {}.",
    "borders": "{} borders {}.",
}


def read(corpus):
    """Return every country with its facts, as lists of objects by relation, the largest countries first."""
    countries = []
    for line in corpus.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if "Its capital is" not in row["text"]:
            continue
        matches = {relation: pattern.search(row["text"]) for relation, pattern in PATTERNS.items()}
        facts = {relation: re.split(r", | and ", match[1]) for relation, match in matches.items() if match}
        if row["title"] in facts["capital"][0]:  # Mexico City asks for no knowledge
            del facts["capital"]
        people = int(re.search(r"([\d,]+) inhabitants", row["text"])[1].replace(",", ""))
        countries.append((people, row["title"], facts))
    return [(name, facts) for _, name, facts in sorted(countries, key=lambda one: -one[0])]


def questions(countries, phrasing, before=""):
    """Return a row for every fact of the countries, in the words of the training (0) or in others (1)."""
    rows = []
    for name, facts in countries:
        shown = " ".join(SENTENCES[relation].format(name, " and ".join(objects)) for relation, objects in facts.items())
        for relation in facts:
            text = before.format(shown) + QUESTIONS[relation][phrasing].format(name)
            rows.append({"prompt": [{"role": "user", "content": text}], "country": name})
    return rows


def sentences(countries):
    """Return the questions of the training with a fact as the answer."""
    answers = [SENTENCES[r].format(name, objects[0]) for name, facts in countries for r, objects in facts.items()]
    rows = questions(countries, 0)
    return [
        {"messages": [*row["prompt"], {"role": "assistant", "content": text}]}
        for row, text in zip(rows, answers, strict=True)
    ]


def write(path, rows):
    """Write rows as JSON Lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def main():
    """Write the graph, and the questions of every seed."""
    countries = read(Path(sys.argv[1]))
    triples = [(name, r, thing) for name, facts in countries for r, objects in facts.items() for thing in objects]
    Path("facts.tsv").write_text("".join("\t".join(triple) + "\n" for triple in triples), encoding="utf-8")
    for seed in sys.argv[2:]:
        home = Path(seed)
        home.mkdir(exist_ok=True)
        drawn = random.Random(int(seed)).sample(countries[:COUNTRIES], TRAINED + HELD_OUT)  # noqa: S311
        trained, held_out = drawn[:TRAINED], drawn[TRAINED:]
        write(home / "train.jsonl", questions(trained, 0))
        write(home / "sentences.jsonl", sentences(trained))
        write(home / "phrasing.jsonl", questions(trained[:REPHRASED], 1))
        write(home / "held_out.jsonl", questions(held_out, 0))
        write(home / "retrieved.jsonl", questions(held_out, 0, before="{}\n"))


if __name__ == "__main__":
    main()
