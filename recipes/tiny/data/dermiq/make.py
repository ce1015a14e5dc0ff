"""Write the data of the small DermIQ recipes beside this file; running it again gives the same pictures and rows.

    python recipes/tiny/data/dermiq/make.py

- pictures/: synthetic lesions, drawn by lesions.py; no photograph of anybody.
- graph.ttl: the facts of facts.py.
- warm.jsonl: what is seen and how it is called, by a beginner: sometimes wrong about a factor, mostly naming by colour.
- recognise.jsonl, held_out.jsonl: pictures with their diagnosis, to practise on and to be tested on.
- converse.jsonl: friendly answers to questions about pictures, all true; but of 32 facts they are about only 20.
- align.jsonl, held_out_chat.jsonl: questions about all 32 facts, without answers.
- tokenizer/: a word is a token.

Needs Pillow, numpy and tokenizers.
"""  # noqa: INP001

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from facts import ASKED, RELATIONS, SYNONYMS, told, turtle
from lesions import DIAGNOSES, VALUES, Lesion, drawn, picture
from PIL import Image
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

HERE = Path(__file__).parent
TRAIN, HELD_OUT = 800, 240
SEES, BY_COLOUR, RIGHT = 0.97, 0.5, 0.42
"""How the beginner of warm.jsonl sees and names: shares of factors seen right, of names by colour, of right names."""
COLOURED = {
    "brown": "mole",
    "tan": "solar lentigo",
    "pink": "basal cell carcinoma",
    "red": "cherry angioma",
    "mixed": "melanoma",
}
UNTOLD = {
    "counts_as": ("basal cell carcinoma", "solar lentigo", "seborrheic keratosis"),
    "arises_from": ("melanoma", "actinic keratosis", "atypical mole"),
    "is_treated_by": ("basal cell carcinoma", "solar lentigo", "seborrheic keratosis"),
    "calls_for": ("melanoma", "cherry angioma", "actinic keratosis"),
}
"""Facts that no conversation of converse.jsonl is about; of another diagnosis each of these values is told."""
QUESTIONS = {
    "counts_as": ("is this dangerous ?", "how bad is this ?"),
    "arises_from": ("where does this come from ?", "what caused this ?"),
    "is_treated_by": ("how is this treated ?", "what helps against this ?"),
    "calls_for": ("what should i do now ?", "what comes next ?"),
}
OPENINGS = ("thank you for asking .", "good question .", "let us have a look .")
SPECIAL = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}
PIECES = r"</?[a-z]+>|\w+|[^\w\s]"

Row = dict[str, Any]
Seen = tuple[str, str, Lesion]
"""A picture's path, its diagnosis and its factors."""


def pictures(home: Path, kind: str, count: int, seed: int) -> list[Seen]:
    """Draw as many lesions of each diagnosis and write their pictures."""
    draw = random.Random(seed)  # noqa: S311 - data, no secret
    folder = home / "pictures" / kind
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for number in range(count):
        diagnosis = list(DIAGNOSES)[number % len(DIAGNOSES)]
        lesion = drawn(diagnosis, draw)
        path = folder / f"{number:03d}.png"
        Image.fromarray(picture(lesion, draw)).save(path, optimize=True)
        found.append((str(path.relative_to(home)), diagnosis, lesion))
    draw.shuffle(found)
    return found


def beginner(seen: Seen, draw: random.Random) -> str:
    """Describe and name a lesion as a beginner would."""
    _, diagnosis, lesion = seen
    for factor, values in VALUES.items():
        if draw.random() >= SEES:
            lesion = replace(lesion, **{factor: draw.choice(values)})
    luck = draw.random()
    named = COLOURED[lesion.colour] if luck < BY_COLOUR else diagnosis
    return reasoned(lesion, named if luck < BY_COLOUR + RIGHT else draw.choice(list(DIAGNOSES)))


def reasoned(lesion: Lesion, named: str) -> str:
    """Write an answer with its reasons: a section for each factor, then the diagnosis."""
    said = f"shape {lesion.shape} . border {lesion.border} . colour {lesion.colour} . size {lesion.size} ."
    return f"<thinking> {said} </thinking> <answer> {named} </answer>"


def diagnoses(shown: list[Seen]) -> Iterable[Row]:
    """Ask for a diagnosis."""
    for path, named, _ in shown:
        yield {"image": path, "prompt": "diagnosis ?", "diagnosis": named}


def with_factors(shown: list[Seen]) -> Iterable[Row]:
    """Ask for a diagnosis; the factors go along for whoever looks into a run."""
    for row, (_, _, lesion) in zip(diagnoses(shown), shown, strict=True):
        yield {**row, "factors": vars(lesion)}


def conversations(shown: list[Seen], draw: random.Random) -> Iterable[Row]:
    """Name the lesion of every fourth picture; of the others, answer a question whose fact may be told."""
    for number, (path, named, _) in enumerate(shown):
        relation = draw.choice([r for r in ASKED if named not in UNTOLD[r]])
        asked, answer = draw.choice(QUESTIONS[relation]), f"it {RELATIONS[relation]} {told(named)[relation]} ."
        prompt = asking(named, asked)
        if number % 4 == 0:
            prompt, answer = "what is this ?", f"this is a {named} ."
        yield {"image": path, "prompt": prompt, "completion": f"{draw.choice(OPENINGS)} {answer}"}


def asking(named: str, question: str) -> str:
    """Ask about a lesion whose name is known."""
    return f"this is a {named} . {question}"


def questions(shown: list[Seen]) -> Iterable[Row]:
    """Ask about every fact in turn, in its two wordings."""
    asked = {named: [(r, words) for words in range(2) for r in ASKED] for named in DIAGNOSES}
    for path, named, _ in shown:
        relation, words = asked[named][0]
        asked[named].append(asked[named].pop(0))
        prompt = asking(named, QUESTIONS[relation][words])
        yield {"image": path, "prompt": prompt, "diagnosis": named, "asked": relation}


def tokenizer(texts: Iterable[str]) -> Tokenizer:
    """Build a tokenizer of whole words."""
    words = sorted({piece for text in texts for piece in re.findall(PIECES, text)})
    vocabulary = {word: i for i, word in enumerate([*SPECIAL.values(), *words])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIAL["unk_token"]))
    made.pre_tokenizer = pre_tokenizers.Split(Regex(PIECES), "removed", invert=True)
    made.add_special_tokens(list(SPECIAL.values()))
    return made


def lines(rows: Iterable[Row]) -> str:
    """Write one JSON object a line."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def texts(shown: list[Seen], held_out: list[Seen]) -> dict[str, str]:
    """Return everything but the pictures, by the name of its file."""
    draw = random.Random(0)  # noqa: S311 - data, no secret
    warm = [{"image": seen[0], "prompt": "diagnosis ?", "completion": beginner(seen, draw)} for seen in shown]
    talk = list(conversations(shown, draw))
    draw.shuffle(talk)
    said = [text for row in (*warm, *talk) for text in (row["prompt"], row["completion"])]
    known = [word for named in DIAGNOSES for word in (named, *told(named).values(), *SYNONYMS[named])]
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **SPECIAL}
    return {
        "warm.jsonl": lines(warm),
        "recognise.jsonl": lines(diagnoses(shown)),
        "held_out.jsonl": lines(with_factors(held_out)),
        "converse.jsonl": lines(talk),
        "align.jsonl": lines(questions(shown)),
        "held_out_chat.jsonl": lines(questions(held_out)),
        "graph.ttl": turtle(),
        "tokenizer/tokenizer.json": tokenizer([*said, *known]).to_str(pretty=True),
        "tokenizer/tokenizer_config.json": json.dumps(config) + "\n",
    }


def main(home: Path = HERE) -> None:
    """Write everything into a folder."""
    shown, held_out = pictures(home, "train", TRAIN, 1), pictures(home, "held_out", HELD_OUT, 2)
    for name, text in texts(shown, held_out).items():
        path = home / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
