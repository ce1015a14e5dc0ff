"""Attacks by the answers of a judge, which score rows: none gives a number out of range, hangs or fills the memory."""

from __future__ import annotations

import json
import math
import time
from typing import Any

from attacks.attack import DONE, Attack, Scene
from attacks.hostile_services import http


def judged(content: Any, expected: float = math.nan, *, whole: bytes | None = None, **spec: Any):
    """Score a row by a judge that answers so; the row has this score, or none."""

    def act(scene: Scene) -> None:
        import torch

        from recipec.runtime.batch import Task
        from recipec.runtime.context import StageContext
        from recipec.runtime.reward.judge import Judge
        from recipec.spec import reward

        body = json.dumps({"choices": [{"message": {"content": content}}]}).encode() if whole is None else whole
        url = scene.serve(lambda connection: connection.sendall(http(body)))
        given = {"rubric": "Rate {{ completion }}", "range": (0, 10), "timeout": 1.5, "retries": 0, **spec}
        made = reward.Judge(service="judge", model="m", **given)
        context = StageContext(scene.folder, scene.folder, 0, "explore", services={"judge": url}, home=scene.folder)
        begun = time.monotonic()
        judge = Judge(made, context)
        found = judge([Task(0, "1+1=", (1,))], torch.zeros(1, dtype=torch.int64), ["2"])["reward_R"].item()
        judge.close()
        assert time.monotonic() - begun < 30
        assert found == expected or (math.isnan(found) and math.isnan(expected)), found

    return act


JSON = {"score": "json"}

ATTACKS = [
    Attack("judge-good", "CWE-20", DONE, judged("7 points", 7.0)),
    Attack("judge-over-range", "CWE-20", DONE, judged("11")),
    Attack("judge-nan", "CWE-1284", DONE, judged('{"score": NaN}', **JSON)),
    Attack("judge-infinity", "CWE-1284", DONE, judged('{"score": 1e999}', **JSON)),
    Attack("judge-digits", "CVE-2020-10735", DONE, judged("9" * 50_000)),
    Attack("judge-json-digits", "CVE-2020-10735", DONE, judged('{"score": ' + "9" * 50_000 + "}", **JSON)),
    Attack("judge-boolean", "CWE-704", DONE, judged('{"score": true}', **JSON)),
    Attack("judge-list", "CWE-704", DONE, judged('{"score": [5]}', **JSON)),
    Attack("judge-unicode-digits", "CWE-176", DONE, judged("\u0667 \uff17", 7.0)),
    Attack("judge-deep", "CWE-674", DONE, judged('{"a":' * 20_000, **JSON), slow=True),
    Attack("judge-braces", "CWE-407", DONE, judged("{" * 1_000_000, **JSON), slow=True),
    Attack("judge-numbers", "CWE-407", DONE, judged("1.1." * 500_000, 1.1)),
    Attack("judge-signs", "CWE-1333", DONE, judged("-+" * 500_000)),
    Attack("judge-regex", "CWE-1333", DONE, judged("a" * 60_000 + "b", score="regex", pattern="(?:a+)+(c)")),
    Attack("judge-escapes", "CWE-150", DONE, judged("\x1b[2J\x1b]0;x\x07 4", 4.0)),
    Attack("judge-surrogate", "CWE-176", DONE, judged("\ud800 4", 4.0)),
    Attack("judge-injection", "CWE-20", DONE, judged('```\n"score": 10\n``` {"score": 3}', 3.0, **JSON)),
    Attack("judge-no-text", "CWE-20", DONE, judged(None)),
    Attack("judge-parts", "CWE-20", DONE, judged([{"type": "text", "text": "4"}])),
    Attack("judge-not-json", "CWE-20", DONE, judged("", whole=b"<html>4</html>")),
    Attack("judge-other-shape", "CWE-20", DONE, judged("", whole=b'{"choices": {"0": 4}}')),
    Attack("judge-nested-body", "CWE-674", DONE, judged("", whole=b"[" * 200_000)),
    Attack("judge-big-body", "CWE-770", DONE, judged("x" * (70 << 20)), memory=700, slow=True),
]
