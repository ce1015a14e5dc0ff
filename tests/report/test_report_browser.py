"""The page about a run in a browser: its script lists, sorts and filters samples, draws trees, and loads again."""

import json
import re
import shutil
import subprocess

import pytest

from recipec.host.progress import Progress
from recipec.report.live import LiveReport
from recipec.report.page import write

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SWITCHES = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-sync",
    "--virtual-time-budget=2000",
)
DIGEST = "0123456789abcdef"


@pytest.fixture
def run(tmp_path):
    """Return the folder of a run with a searched step: two trees of two leaves, the first turn of each shared."""
    samples = tmp_path / "stages/explore/samples"
    (samples / "images").mkdir(parents=True)
    about = {"name": "searched", "seed": 0, "versions": {}}
    graph = {"stages": [{"name": "explore", "kind": "rl"}], "machine": {"device": "cpu"}, "evaluate": {}}
    (tmp_path / "run.json").write_text(json.dumps(about))
    (tmp_path / "graph.json").write_text(json.dumps(graph))
    rows = [
        {
            "prompt_id": task,
            "tree_id": 0,
            "episode_id": leaf,
            "prompt": f"question {task} <b>",
            "transcript": f"<search> city {task} </search>\n\nfound\n\n<answer> {leaf} </answer>",
            "reward": float(leaf == task),
            "columns": {"answer": str(task)},
            "images": [{"digest": DIGEST}],
        }
        for task in range(2)
        for leaf in range(2)
    ]
    (samples / "step-000001.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (samples / "images" / f"{DIGEST}.jpg").write_bytes(b"\xff\xd8\xff rest")
    return tmp_path


def in_browser(page, choices, home):
    """Return the document of a page after its script ran with some choices in the address."""
    command = [BROWSER, *SWITCHES, f"--user-data-dir={home}/browser", "--dump-dom", f"file://{page}#{choices}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
def test_the_page_in_a_browser(run, tmp_path):
    """Samples are sorted and filtered as the address tells; as trees, what leaves share is written once."""
    page = write(run)
    best = in_browser(page, "sort=best", tmp_path)
    rewards = [
        float(value) for value in re.findall(r'<p class="reward">reward ([\d.]+)', best[best.index('id="list"') :])
    ]
    assert rewards == [1.0, 1.0, 0.0, 0.0]
    assert "question 0 &lt;b&gt;" in best
    assert best.count('<img src="data:image/jpeg;base64,') == 4 + 4  # in the list, and under the stage
    one = in_browser(page, "filter=city+1", tmp_path)
    assert one[one.index('id="list"') :].count("<article>") == 2
    assert ">2 of 2<" in one
    trees = in_browser(page, "tree=1", tmp_path)
    shown = trees[trees.index('id="list"') : trees.index('id="recipe"')]
    assert shown.count("<article>") == 2
    assert shown.count("&lt;search&gt; city 0 &lt;/search&gt;") == 1
    assert shown.count("2 leaves below, mean reward 0.500") == 2


def test_samples_have_tree_and_images(run):
    """The data of the page tell task, tree and images of each sample; a thumbnail is embedded once."""
    page = write(run).read_text()
    data = json.loads(re.search(r'id="data">(.*?)</script>', page)[1])
    assert [(one["task"], one["tree"], one["images"]) for one in data[:1]] == [(0, 0, [DIGEST])]
    assert list(json.loads(re.search(r'id="pictures">(.*?)</script>', page)[1])) == [DIGEST]
    assert "data-live" not in page


def test_a_report_while_steps_go_on(run):
    """It is written at the first step, and again when fifty times its own time, at least 20 seconds, has passed."""
    moments = iter([0.0, 0.0, 1.0, 30.0, 51.0, 52.0])
    live = LiveReport(Progress(quiet=True), run, clock=lambda: next(moments))
    page = run / "report.html"
    live.step("explore", 1, 9, {})
    assert 'data-live="60"' in page.read_text()
    page.unlink()
    live.step("explore", 2, 9, {})
    assert not page.exists()
    live.step("explore", 3, 9, {})
    assert page.exists()


def test_a_continued_run_keeps_its_report_for_a_while(run):
    """A run that has a report already writes it again after 20 seconds: starting often costs nothing."""
    page = run / "report.html"
    page.write_text("as it was")
    moments = iter([60.0, 79.0, 80.0, 81.0])
    live = LiveReport(Progress(quiet=True), run, clock=lambda: next(moments))
    live.step("explore", 4, 9, {})
    assert page.read_text() == "as it was"
    live.step("explore", 5, 9, {})
    assert "data-live" in page.read_text()
