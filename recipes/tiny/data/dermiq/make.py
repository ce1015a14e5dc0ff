"""Write the data of the small DermIQ recipes next to this file; running it again gives the same images and rows.

    python recipes/tiny/data/dermiq/make.py

- pictures/: synthetic lesions, drawn by lesions.py; no photographs.
- graph.ttl: the facts of facts.py.
- warm.jsonl: descriptions and diagnoses of a beginner, who sometimes gets a factor wrong and often names by colour.
- recognise.jsonl, held_out.jsonl: images with their diagnosis, for training and for evaluation.
- converse.jsonl: friendly answers to questions about images, all true, but about only 20 of 32 facts.
- align.jsonl, held_out_chat.jsonl: questions about all 32 facts, without answers.
- tokenizer/: one token per word.

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
"""The beginner of warm.jsonl: shares of factors that are right, of names by colour, and of right names."""
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
"""Facts that converse.jsonl leaves out; each of these values occurs there with another diagnosis."""
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
"""Path, diagnosis and factors of an image."""


def pictures(home: Path, kind: str, count: int, seed: int) -> list[Seen]:
    """Draw ``count`` lesions, the diagnoses in turn, and write their images."""
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
    """Return the answer of a beginner."""
    _, diagnosis, lesion = seen
    for factor, values in VALUES.items():
        if draw.random() >= SEES:
            lesion = replace(lesion, **{factor: draw.choice(values)})
    luck = draw.random()
    named = COLOURED[lesion.colour] if luck < BY_COLOUR else diagnosis
    return reasoned(lesion, named if luck < BY_COLOUR + RIGHT else draw.choice(list(DIAGNOSES)))


def reasoned(lesion: Lesion, named: str) -> str:
    """Return an answer with reasoning: a section for each factor, then the diagnosis."""
    factors = f"shape {lesion.shape} . border {lesion.border} . colour {lesion.colour} . size {lesion.size} ."
    return f"<thinking> {factors} </thinking> <answer> {named} </answer>"


def diagnoses(shown: list[Seen]) -> Iterable[Row]:
    """Ask for a diagnosis."""
    for path, named, _ in shown:
        yield {"image": path, "prompt": "diagnosis ?", "diagnosis": named}


def with_factors(shown: list[Seen]) -> Iterable[Row]:
    """Ask for a diagnosis; the factors are in the row for inspection."""
    for row, (_, _, lesion) in zip(diagnoses(shown), shown, strict=True):
        yield {**row, "factors": vars(lesion)}


def conversations(shown: list[Seen], draw: random.Random) -> Iterable[Row]:
    """Name the lesion of every fourth image; for the others, answer a question about a fact that is not left out."""
    for number, (path, named, _) in enumerate(shown):
        relation = draw.choice([r for r in ASKED if named not in UNTOLD[r]])
        asked, answer = draw.choice(QUESTIONS[relation]), f"it {RELATIONS[relation]} {told(named)[relation]} ."
        prompt = asking(named, asked)
        if number % 4 == 0:
            prompt, answer = "what is this ?", f"this is a {named} ."
        yield {"image": path, "prompt": prompt, "completion": f"{draw.choice(OPENINGS)} {answer}"}


def asking(named: str, question: str) -> str:
    """Return a question about a lesion, with its name."""
    return f"this is a {named} . {question}"


def questions(shown: list[Seen]) -> Iterable[Row]:
    """Ask about all facts in turn, in two wordings each."""
    asked = {named: [(r, words) for words in range(2) for r in ASKED] for named in DIAGNOSES}
    for path, named, _ in shown:
        relation, words = asked[named][0]
        asked[named].append(asked[named].pop(0))
        prompt = asking(named, QUESTIONS[relation][words])
        yield {"image": path, "prompt": prompt, "diagnosis": named, "asked": relation}


def tokenizer(texts: Iterable[str]) -> Tokenizer:
    """Return a tokenizer with one token per word."""
    words = sorted({piece for text in texts for piece in re.findall(PIECES, text)})
    vocabulary = {word: i for i, word in enumerate([*SPECIAL.values(), *words])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIAL["unk_token"]))
    made.pre_tokenizer = pre_tokenizers.Split(Regex(PIECES), "removed", invert=True)
    made.add_special_tokens(list(SPECIAL.values()))
    return made


def lines(rows: Iterable[Row]) -> str:
    """Return rows as JSON lines."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def texts(shown: list[Seen], held_out: list[Seen]) -> dict[str, str]:
    """Return the text of every file except the images."""
    draw = random.Random(0)  # noqa: S311 - data, no secret
    warm = [{"image": seen[0], "prompt": "diagnosis ?", "completion": beginner(seen, draw)} for seen in shown]
    talk = list(conversations(shown, draw))
    draw.shuffle(talk)
    spoken = [text for row in (*warm, *talk) for text in (row["prompt"], row["completion"])]
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
        "tokenizer/tokenizer.json": tokenizer([*spoken, *known]).to_str(pretty=True),
        "tokenizer/tokenizer_config.json": json.dumps(config) + "\n",
    }


def main(home: Path = HERE) -> None:
    """Write all files into a folder."""
    shown, held_out = pictures(home, "train", TRAIN, 1), pictures(home, "held_out", HELD_OUT, 2)
    for name, text in texts(shown, held_out).items():
        path = home / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
