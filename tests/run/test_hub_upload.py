"""`export --to hub:OWNER/NAME` uploads the exported model, or says why the hub does not take it."""

import os
import subprocess
import sys

import pytest
from safetensors.torch import load
from support.hub_server import TOKEN, HubServer
from support.small_recipes import ROWS, SFT


@pytest.fixture(scope="module")
def hub():
    """Return a hub on this machine."""
    server = HubServer()
    yield server
    server.close()


def upload(folder, hub, *words, **environment):
    """Run the command in a process of its own, with the hub's address and a token."""
    kept = {name: value for name, value in os.environ.items() if name not in {"HF_HUB_OFFLINE", "HF_TOKEN"}}
    given = {**kept, "HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HOME": str(folder.path / "home"), **environment}
    command = [sys.executable, "-m", "recipec", "export", "runs/small", *words]
    return subprocess.run(command, cwd=folder.path, env=given, capture_output=True, text=True, check=False)


def test_an_export_is_uploaded(folder, hub):
    """The repository is private unless `--public` is given, and has weights, tokenizer and card.

    An account without a token, one that may not write there, a bad name and an offline hub are RC938 with the cause.
    """
    assert folder.run(SFT, a__jsonl=ROWS).code == 0
    before = {path.name for path in (folder.path / "runs/small").iterdir()}
    made = upload(folder, hub, "--to", "hub:me/small")
    assert (made.returncode, made.stdout.strip()) == (0, f"{hub.url}/me/small"), made.stderr
    policy = folder.path / "runs/small/stages/learn/policy"
    sent, trained = hub.files["me/small"], (policy / "model.safetensors").read_bytes()
    assert hub.private["me/small"] is True
    assert {"README.md", "config.json", "tokenizer.json"} <= sent.keys()
    assert load(sent["model.safetensors"]).keys() == load(trained).keys()
    assert "# small" in sent["README.md"].decode()
    assert {path.name for path in (folder.path / "runs/small").iterdir()} == before
    assert upload(folder, hub, "--to", "hub:me/seen", "--public").returncode == 0
    assert hub.private["me/seen"] is False
    for words, environment, cause in (
        (("--to", "hub:others/small"), {}, "403"),
        (("--to", "hub:me/small"), {"HF_TOKEN": ""}, "no account is logged in"),
        (("--to", "hub:me/a/b"), {}, "hub:OWNER/NAME"),
        (("--to", "hub:me/small"), {"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE"),
        (("--to", "hub:me/small"), {"HF_ENDPOINT": "http://127.0.0.1:9"}, "does not take"),
    ):
        refused = upload(folder, hub, *words, **environment)
        assert refused.returncode == 1, (words, environment, refused.stderr)
        assert "RC938" in refused.stderr
        assert cause in refused.stderr
