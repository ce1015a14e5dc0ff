"""Words of four letters to spell backward: demonstrations, tasks, held-out tasks, pairs and labelled answers.

    python make.py 0

No word is in two of the files, except that pairs and labelled answers are of the words of the tasks, and those for the
reward model of all words that are not held out. A wrong answer
has two letters of the right one exchanged, one to four letters replaced, or a letter less.
"""

import json
import random
import string
import sys
from pathlib import Path


def words(draw: random.Random, count: int, taken: set[str]) -> list[str]:
    """Draw words that were not drawn before."""
    made = []
    while len(made) < count:
        word = "".join(draw.choice(string.ascii_lowercase) for _ in range(4))
        if word not in taken:
            taken.add(word)
            made.append(word)
    return made


def wrong(draw: random.Random, word: str) -> str:
    """Return another answer than the right one."""
    letters, how = list(reversed(word)), draw.random()
    if how < 0.3:
        one, other = draw.sample(range(4), 2)
        letters[one], letters[other] = letters[other], letters[one]
    elif how < 0.9:
        for place in draw.sample(range(4), draw.randint(1, 4)):
            letters[place] = draw.choice(string.ascii_lowercase)
    else:
        del letters[draw.randrange(4)]
    found = "".join(letters)
    return found if found != word[::-1] else wrong(draw, word)


def write(name: str, rows: list[dict[str, object]]) -> None:
    """Write rows as JSON Lines."""
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def main() -> None:
    """Write the files into the working directory."""
    draw, taken = random.Random(int(sys.argv[1])), set[str]()  # noqa: S311 - data
    shown, tasks, held_out = (words(draw, count, taken) for count in (2000, 2000, 200))
    write("demonstrations.jsonl", [{"prompt": f"{w}=", "completion": w[::-1]} for w in shown])
    write("tasks.jsonl", [{"prompt": f"{w}=", "answer": w[::-1]} for w in tasks])
    write("held_out.jsonl", [{"prompt": f"{w}=", "answer": w[::-1]} for w in held_out])
    pairs = [(w, w[::-1], wrong(draw, w)) for w in tasks]
    more = [(w, w[::-1], wrong(draw, w)) for w in (*shown, *tasks) for _ in range(4)]
    write("judged.jsonl", [{"prompt": f"{w}=", "chosen": good, "rejected": bad} for w, good, bad in more])
    write("pairs.jsonl", [{"prompt": f"{w}=", "chosen": good, "rejected": bad} for w, good, bad in pairs])
    labelled = [
        {"prompt": f"{w}=", "completion": answer, "label": answer == good}
        for w, good, bad in pairs
        for answer in (good, bad)
    ]
    draw.shuffle(labelled)
    write("labelled.jsonl", labelled)


if __name__ == "__main__":
    main()
