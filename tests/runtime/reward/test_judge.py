"""Judges behind a real HTTP server: scores, failures that cost their row, cached answers, and what `check` says."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from recipec.diagnostics.model import RecipeError
from recipec.host.preflight import PreflightRequest
from recipec.runtime.batch import Task
from recipec.runtime.context import StageContext
from recipec.runtime.reward.judge import Judge, check
from recipec.runtime.reward.judge_answers import score_of
from recipec.spec import reward as specs

RUBRIC = "Question: {{ prompt }}\nGold: {{ answer }}\nAnswer: {{ completion }}\nGive 0 to 10 points."


class Server(ThreadingHTTPServer):
    """A service of chat completions that counts and keeps what it is asked, and answers by the text of the answer."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[dict[str, Any]] = []
        self.failures = 0
        self.together = self.most = 0
        self.lock = threading.Lock()

    def handle_error(self, *_: Any) -> None:
        """Say nothing of requests that were given up."""


class Handler(BaseHTTPRequestHandler):
    """Answer one request."""

    server: Server

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        """Answer as the last line of the request asks for."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.asked.append({**body, "path": self.path, "key": self.headers.get("Authorization")})
            self.server.together += 1
            self.server.most = max(self.server.most, self.server.together)
            flaky = "flaky" in body["messages"][-1]["content"] and self.server.failures == 0
            self.server.failures += flaky
        try:
            self._answer(body["messages"][-1]["content"], flaky=flaky)
        finally:
            with self.server.lock:
                self.server.together -= 1

    def _answer(self, text: str, *, flaky: bool) -> None:
        if "hang" in text:
            time.sleep(3)
        reply = "I will not say." if "lie" in text else "99" if "high" in text else "It has 3 parts; 7 points."
        time.sleep(0.05)
        made = {"choices": [{"message": {"content": reply}}], "usage": {"prompt_tokens": 10, "completion_tokens": 4}}
        data = b"<html>" if "garbage" in text else json.dumps(made).encode()
        self.send_response(503 if flaky else 200)
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def server() -> Iterator[Server]:
    """A judge on a free port."""
    made = Server()
    thread = threading.Thread(target=made.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


def context(server: Server, home: Path, **more: Any) -> StageContext:
    """Make a stage with the service."""
    services = {"judge": f"http://127.0.0.1:{server.server_address[1]}/v1"}
    return StageContext(home, home, 0, "explore", services=services, home=home, **more)


def spec(**more: Any) -> specs.Judge:
    """Make a judge."""
    given = {"rubric": RUBRIC, "range": (0, 10), "timeout": 1.0, "retries": 1, "price_in": 1.0, "price_out": 2.0}
    return specs.Judge(service="judge", model="m", **{**given, **more})


def score(judge: Judge, *texts: str) -> dict[str, Any]:
    """Score answers to one question."""
    return judge([Task(0, "1+1=", (1,), {"answer": "2"})], torch.zeros(len(texts), dtype=torch.int64), texts)


def test_each_failure_costs_its_row_and_no_answer_is_paid_twice(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A judge that hangs, lies or answers garbage leaves rows unscored; a resumed run asks only what had no answer."""
    monkeypatch.setenv("RECIPEC_JUDGE_KEY", "sesame")
    where = context(server, tmp_path, service_keys={"judge": "RECIPEC_JUDGE_KEY"})
    judge = Judge(spec(system="Be fair."), where)
    made = score(judge, "2", "hang", "lie", "garbage", "high", "flaky", "2")
    expected = torch.tensor([7.0, torch.nan, torch.nan, torch.nan, torch.nan, 7.0, 7.0], dtype=torch.float64)
    torch.testing.assert_close(made["reward_R"], expected, equal_nan=True)
    counts = {name.rpartition("/")[2]: float(value) for name, value in made.items() if name.startswith("metric/")}
    assert counts == pytest.approx(
        {"requests": 6, "unscored": 4, "tokens_in": 40, "tokens_out": 16, "cost": (40 + 2 * 16) / 1e6}
    )
    first = server.asked[0]
    assert (first["path"], first["key"]) == ("/v1/chat/completions", "Bearer sesame")
    assert [message["role"] for message in first["messages"]] == ["system", "user"]
    assert "Question: 1+1=\nGold: 2\nAnswer:" in first["messages"][1]["content"]
    assert server.most > 1
    assert not any("sesame" in path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    judge.close()

    kept = tmp_path / "judge" / "answers.jsonl"
    kept.write_bytes(kept.read_bytes() + b'{"key": "cut')
    before = len(server.asked)
    again = Judge(spec(system="Be fair."), where)
    assert score(again, "2", "lie", "high")["metric/judge/requests"] == 0
    assert score(again, "3", "2")["reward_R"].tolist() == [7.0, 7.0]
    assert len(server.asked) - before == 1
    again.close()
    third = Judge(spec(system="Be fair.", unscored=-1.0), where)
    assert score(third, "3", "lie")["reward_R"].tolist() == [7.0, -1.0]
    assert len(server.asked) - before == 1
    third.close()


def test_check_says_whether_the_judge_answers(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that answers passes; a missing key, an address without a service and a broken rubric are named."""
    services = dict(context(server, tmp_path).services)
    assert list(check(spec(), PreflightRequest(tmp_path, services))) == []
    assert server.asked[0]["max_tokens"] == 1
    (found,) = check(spec(rubric="{{ a"), PreflightRequest(tmp_path, services))
    assert (found.code, found.path) == ("RC712", "rubric")
    monkeypatch.delenv("RECIPEC_JUDGE_KEY", raising=False)
    (found,) = check(spec(), PreflightRequest(tmp_path, services, {"judge": "RECIPEC_JUDGE_KEY"}))
    assert found.code == "RC954"
    (found,) = check(spec(), PreflightRequest(tmp_path, {"judge": "http://127.0.0.1:9/v1"}))
    assert (found.code, found.path) == ("RC804", "service")
    judge = Judge(spec(rubric="{{ missing }}"), context(server, tmp_path))
    with pytest.raises(RecipeError) as refused:
        score(judge, "2")
    assert refused.value.diagnostics[0].code == "RC711"
    judge.close()


@pytest.mark.parametrize(
    ("form", "text", "expected"),
    [
        ({}, "Out of 10 points: 4.5", 4.5),
        ({}, "version v2, 3x", None),
        ({}, "-1", None),
        ({"score": "regex", "pattern": r"Score: (\d+)"}, "Score: 1. No, Score: 8 of 10", 8.0),
        ({"score": "regex", "pattern": r"(a+)+$"}, "a" * 40 + "b", None),
        ({"score": "json"}, 'Think {x} first. {"score": 6, "why": "{"}', 6.0),
        ({"score": "json", "field": "points"}, '{"points": {"score": 2}}', None),
        ({"score": "json"}, '{"score": true} {"score": "5"}', 5.0),
        ({"score": "json"}, '{"score": NaN}', None),
        ({}, "9" * 5000, None),
    ],
)
def test_the_score_is_found_or_there_is_none(form: dict[str, Any], text: str, expected: float | None) -> None:
    """Each parser takes the last score of its form, and none that is out of range, whatever the judge wrote."""
    found = score_of(spec(**form), text)
    assert (None if found != found else found) == expected  # noqa: PLR0124 - NaN
