"""What a graph of facts lacks is found before a model is loaded, with its place; what was read is read once."""

import os

import pytest
from support.small_recipes import MODEL, SFT, rows
from test_kg_preferences import FILES, RANK

ALIGN = "  " + RANK.partition("stages:")[2].lstrip().replace(MODEL, "    from: learn\n")
TWO = SFT + ALIGN
GRAPH = "type: triples, path: facts.tsv, closed: [has sign]"
SERVED = RANK.replace(GRAPH, "type: sparql, service: facts, retries: 0, timeout: 2")
SERVED += 'machine: {services: {facts: {url: "http://127.0.0.1:9/sparql"}}}\n'


@pytest.mark.parametrize(
    ("recipe", "facts", "code", "at"),
    [
        (TWO, "d0\thas sign\ta\nd0\thas sign\n", "RC870", "facts.tsv:2"),
        (TWO, "d0\tshows\ta\n", "RC872", "r.yaml:"),
        (TWO, "\n", "RC871", "r.yaml:"),
        (TWO.replace("facts.tsv", "[facts.tsv, none.ttl]"), "d0\thas sign\ta\n", "RC700", "r.yaml:"),
        (TWO.replace("closed:", "embedder: ./a, closed:"), "d0\thas sign\ta\n", "RC721", "r.yaml:"),
        (SERVED, "", "RC804", "r.yaml:"),
        (SERVED.replace("http://127.0.0.1:9/", "file:///etc/"), "", "RC803", "r.yaml:"),
        (RANK.replace(GRAPH, "type: hpo, below: HP:01"), "", "RC876", ":"),
        (
            RANK.replace(GRAPH, "type: extract, path: a.jsonl"),
            "",
            "RC705",
            "a.jsonl:1",
        ),
    ],
)  # fmt: skip
def test_what_a_graph_lacks_ends_the_run_first(folder, recipe, facts, code, at):
    """Broken facts, unknown relations, silent services, missing texts: told before the first stage begins."""
    ended = folder.run(recipe, **{**FILES, "facts__tsv": facts})

    assert (ended.code, ended.first) == (1, code), ended.err
    assert at in ended.err
    assert not (folder.path / "runs/small/stages").exists()


def test_a_pipe_is_no_file_of_facts(folder):
    """What would never end, or never begin, is refused where it is named."""
    os.mkfifo(folder.path / "pipe.tsv")
    ended = folder.run(TWO.replace("facts.tsv", "pipe.tsv"), **FILES)

    assert (ended.code, ended.first) == (1, "RC700")
    assert "neither a file nor a folder" in ended.err
    assert "r.yaml:" in ended.err


def test_several_files_are_one_graph(folder):
    """Facts of all files are read, and each counts for what the run depends on."""
    recipe = RANK.replace("path: facts.tsv", "path: [facts.tsv, more.nt]")
    more = "<urn:x-name:d0> <urn:x-name:has%20sign> <urn:x-name:zz> .\n"
    assert folder.run(recipe, **FILES, more__nt=more).code == 0
    changed = folder.run(recipe, **FILES, more__nt=more.replace("zz", "yy"))
    assert changed.first == "RC760", changed.err
    assert folder.call("run", "r.yaml", "--replace").code == 0
    aside = list((folder.path / "runs/small/stages/align").glob("policy@*"))
    assert aside, "another graph is another stage"


def test_a_stage_without_its_graph(folder):
    """An ablation takes the graph away and learns from the data's own pairs."""
    pairs = rows(*({"prompt": f"p{i}", "chosen": "a", "rejected": "b"} for i in range(4)))
    recipe = RANK.replace("    sampler:", "    #sampler:").replace("    preference:", "    #preference:")
    ended = folder.run(recipe.replace("    knowledge:", "    #knowledge:"), a__jsonl=pairs)

    assert ended.code == 0, ended.err


def test_documents_are_read_once(folder):
    """A model of the run reads; a run that continues finds what it read, and nothing left of it is told."""
    recipe = RANK.replace(
        GRAPH,
        "type: extract, path: a.jsonl, column: prompt, limit: 2, max_completion_length: 8, prompt: short.j2",
    )
    ended = folder.run(recipe, **FILES, short__j2="{{ document }}")

    assert (ended.code, ended.first) == (1, "RC871"), ended.err
    (kept,) = (folder.path / "runs/small/stages/align/extracted").glob("*/facts.jsonl")
    assert kept.read_text() == ""
    assert folder.call("run", "r.yaml").first == "RC871"


def test_an_earlier_stage_reads(folder):
    """The policy of another stage reads; what comes of it is told after that stage, which is kept."""
    graph = (
        "type: extract, model: learn, path: a.jsonl, column: prompt, limit: 1, max_completion_length: 8, prompt: s.j2"
    )
    ended = folder.run(TWO.replace(GRAPH, graph), **FILES, s__j2="{{ document }}")

    assert (ended.code, ended.first) == (4, "RC871"), ended.err
    assert "no fact was read" in ended.err
    assert (folder.path / "runs/small/stages/learn/policy").exists()
    assert len(list((folder.path / "runs/small/stages/align/extracted").glob("*/MANIFEST.json"))) == 1
    again = folder.call("run", "r.yaml")
    assert again.first == "RC871"
    assert "facts read" not in again.err
