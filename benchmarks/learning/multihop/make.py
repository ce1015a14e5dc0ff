"""Write the data of the task: a small corpus, questions, imperfect demonstrations and a tokenizer of whole words.

    python make.py FOLDER [CITIES ROWS SKILL]    # with train.jsonl and dev.jsonl of recipes/tree_grpo/data

Writes into the current folder: corpus.jsonl, train.jsonl, held_out.jsonl, demonstrations.jsonl, tokenizer/.

Facts come from those questions; only names of one word are used, so that a name is a token.
Demonstrations cover all questions, including those that are held out from RL.
"""

import json
import random
import re
import sys
from collections import Counter
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

SURE = 0.85
PIECES = r"</?[a-z]+>|\w+|[^\w\s]"
SPECIAL = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}


def facts(folder):
    """Return city -> country and (country, kind) -> word, from the two-hop questions."""
    home, known = {}, {}
    for name in ("train", "dev"):
        for line in (folder / f"{name}.jsonl").read_text().splitlines():
            row = json.loads(line)
            names = [*row["path"], row["answer"][0]]
            if row["hops"] != 2 or len(row["path"]) != 2 or any(not re.fullmatch(r"[A-Za-z]+", n) for n in names):
                continue
            city, country = row["path"]
            home[city] = country
            known[country, row["kind"]] = row["answer"][0]
    places = {place for place, _ in known}
    return {city: place for city, place in home.items() if city not in places}, known


def demonstrations(questions, home, known, count, skill, draw):
    """Yield single turns: the completion is right with probability ``skill``, earlier turns with SURE."""
    cities, countries, words = sorted(home), sorted({place for place, _ in known}), sorted(set(known.values()))

    def mostly(right, others, chance):
        return right if draw.random() < chance else draw.choice(others)

    for i in range(count):
        if i % 3 == 0:
            row = draw.choice(questions)
            said, city, kind = f"{row['question']} ?", mostly(row["city"], cities, SURE), row["kind"]
            yield {"prompt": said, "completion": f"<search> {mostly(row['city'], cities, skill)} </search>"}
        elif i % 3 == 1:
            said += looked_up(city, city, f"city of {home[city]}")
            asked = f"{kind} {mostly(home[city], countries, skill)}"
            yield {"prompt": said, "completion": f"<search> {asked} </search>"}
        else:
            country = mostly(home[city], countries, SURE)
            found = kind if (country, kind) in known else draw.choice([k for p, k in sorted(known) if p == country])
            word = known[country, found]
            said += looked_up(f"{kind} {country}", country, f"{found} {word}")
            yield {"prompt": said, "completion": f"<answer> {mostly(word, words, skill)} </answer>"}


def looked_up(asked, title, text):
    """Return a search and its result in the format of the dialogue."""
    return f" <search> {asked} </search> \n\n<information> Doc 1 (Title: {title}) {text}\n</information>\n\n"


def tokenizer(texts):
    """Return a tokenizer with one token for each word of the texts."""
    words = Counter(piece for text in texts for piece in re.findall(PIECES, text))
    vocabulary = {token: i for i, token in enumerate([*SPECIAL.values(), *sorted(words)])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))  # noqa: S106
    made.pre_tokenizer = pre_tokenizers.Split(Regex(PIECES), behavior="removed", invert=True)
    return PreTrainedTokenizerFast(tokenizer_object=made, clean_up_tokenization_spaces=False, **SPECIAL)


def write(name, rows):
    """Write rows as JSON lines."""
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    draw = random.Random(0)  # noqa: S311
    cities, rows, skill = sys.argv[2:] or (120, 30000, 0.7)
    home, known = facts(Path(sys.argv[1]))
    home = {city: home[city] for city in sorted(draw.sample(sorted(home), int(cities)))}
    known = {key: word for key, word in known.items() if key[0] in home.values()}
    corpus = [{"title": c, "text": f"city of {home[c]}"} for c in sorted(home)]
    corpus += [{"title": country, "text": f"{kind} {word}"} for (country, kind), word in sorted(known.items())]
    questions = [
        {"question": f"{kind} of {city}", "answer": known[country, kind], "city": city, "kind": kind}
        for city, country in sorted(home.items())
        for kind in sorted(k for place, k in known if place == country)
    ]
    draw.shuffle(questions)
    held_out, train = questions[: len(questions) // 6], questions[len(questions) // 6 :]
    shown = list(demonstrations(questions, home, known, int(rows), float(skill), draw))
    write("corpus.jsonl", corpus)
    write("train.jsonl", train)
    write("held_out.jsonl", held_out)
    write("demonstrations.jsonl", shown)
    texts = [row["prompt"] + row["completion"] for row in shown] + [
        q["question"] + " ? " + q["answer"] for q in questions
    ]
    texts += [document["title"] + " " + document["text"] for document in corpus]
    tokenizer(texts).save_pretrained("tokenizer")
    print(len(home), "cities", len(corpus), "documents", len(train), "questions", len(held_out), "held out")
