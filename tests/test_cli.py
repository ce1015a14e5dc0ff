"""Every verb, every way to end: exit codes, streams and formats."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from support.small_recipes import MODEL, RL, ROWS, SFT

from recipec import cli

BAD = SFT.replace("kind: sft", "kind: x")
WARNED = RL.replace("use: [./rewards.py]\n", "").replace(
    "{type: function, name: score}", "{type: length, max_length: 4}"
)
WARNED = WARNED.replace("max_completion_length: 4", "max_completion_length: 4, top_p: 0.9")

EXITS = [
    ("--version", 0),
    ("--help", 0),
    ("validate good.yaml", 0),
    ("validate good.yaml bad.yaml", 1),
    ("validate nope.yaml", 1),
    ("validate good.yaml --set nonsense", 1),
    ("validate empty", 2),
    ("validate", 2),
    ("validate good.yaml --format nope", 2),
    ("explain RC204", 0),
    ("explain rc204", 0),
    ("explain RC999", 2),
    ("plan good.yaml", 0),
    ("plan good.yaml --detailed-exitcode", 5),
    ("plan bad.yaml", 1),
    ("plan .", 1),
    ("compile good.yaml", 0),
    ("compile good.yaml --emit json", 0),
    ("compile good.yaml --emit mermaid", 0),
    ("compile good.yaml --emit recipe", 0),
    ("compile bad.yaml", 1),
    ("compile good.yaml --emit nope", 2),
    ("run bad.yaml", 1),
    ("run nope.yaml", 1),
    ("run good.yaml --nope", 2),
    ("report nope", 1),
    ("report good.yaml", 1),
    ("ls", 0),
    ("ls components", 0),
    ("ls components loss", 0),
    ("ls loss", 0),
    ("ls components nope", 2),
    ("ls codes", 0),
    ("ls nope", 2),
    ("show loss/clipped", 0),
    ("show algorithms/grpo", 0),
    ("show ../../etc/passwd", 2),
    ("new tiny/quickstart mine/recipe.yaml", 0),
    ("new nope other.yaml", 2),
    ("new tiny/quickstart good.yaml", 1),
    ("new tiny/quickstart good.yaml/x.yaml", 1),
    ("schema", 0),
    ("schema graph", 0),
    ("schema nope", 2),
    ("schema --write good.yaml", 1),
    ("nope", 2),
]


@pytest.fixture
def two(folder):
    """A folder with a good recipe, a bad one and an empty folder."""
    folder.write(good__yaml=SFT, bad__yaml=BAD, a__jsonl=ROWS)
    (folder.path / "empty").mkdir()
    return folder


@pytest.mark.parametrize(("command", "code"), EXITS)
def test_exit_codes(two, command, code):
    """0 fine, 1 findings or refused, 2 misuse, 5 a plan with changes; never a traceback, never a crash file."""
    ended = two.call(*command.split())
    assert ended.code == code
    if code in {1, 2}:
        assert not ended.out
        assert ended.err


@pytest.mark.parametrize("verb", ["plan", "compile", "run", "credit"])
def test_a_fragment_is_no_recipe(folder, verb):
    """A sound file without stages is told to be a fragment, at its place, and not refused without a word."""
    folder.write(part__yaml="recipec: 1\nloss: {type: clipped}\n", a__jsonl=ROWS)
    assert folder.call("validate", "part.yaml").code == 0
    ended = folder.call(verb, "part.yaml", *(["a.jsonl"] if verb == "credit" else []))
    assert (ended.code, ended.first, ended.out) == (1, "RC147", "")
    assert "part.yaml:1:1" in ended.err


@pytest.mark.parametrize("verb", ["validate", "plan", "compile", "run"])
def test_standard_input(two, verb):
    """A dash reads the recipe from standard input; places are told as <stdin>."""
    assert two.call(verb, "-", stdin=SFT).code == 0
    ended = two.call(verb, "-", stdin=BAD)
    assert (ended.code, ended.first) == (1, "RC132")
    assert "<stdin>:5:11" in ended.err


@pytest.mark.parametrize(
    ("was", "now", "said"),
    [
        ("data: {path: a.jsonl}", "data: a.jsonl", "write `data: {path: a.jsonl}`"),
        ("from: scratch", "from: scrach", "did you mean `scratch`?"),
        ("learn:", "été:", "write `ete`"),
        ("recipec: 1", "recipec: '1'", "the format version must be the number 1"),
        ("rows_per_step: 2", "micro_batch_size: 2", "here it is `budget.rows_per_step`"),
        ("learning_rate: 1.0e-3", "optim: adamw", "is Transformers' name; here it is `optimizer.type`"),
        ("name: small", "name: " + "a" * 300, "1 to 100 letters"),
    ],
)
def test_what_to_write_instead(folder, was, now, said):
    """A frequent mistake is answered with what to write, and only once."""
    folder.write(r__yaml=SFT.replace(was, now))
    ended = folder.call("validate", "r.yaml")
    assert ended.code == 1
    assert said in ended.err
    assert ended.err.count(said) == 1


def test_an_unknown_origin_is_one_error(folder):
    """A stage that starts from nothing known says so, and nothing follows from it."""
    folder.write(r__yaml=SFT.replace("from: scratch", "from: scrach"))
    assert folder.call("validate", "r.yaml").err.count("error[") == 1


def test_warnings_fail_only_when_strict(folder):
    """A legal recipe with a warning exits 0, and 1 with --strict."""
    folder.write(r__yaml=WARNED)
    ended = folder.call("validate", "r.yaml")
    assert ended.code == 0
    assert "warning[RC" in ended.err
    assert folder.call("validate", "r.yaml", "--strict").code == 1


def test_json(two):
    """The JSON of findings has the stated keys, 1-based places, and stands alone on stdout."""
    ended = two.call("validate", "bad.yaml", "--format", "json")
    found = json.loads(ended.out)
    assert (ended.code, ended.err) == (1, "")
    assert set(found) == {"format_version", "valid", "diagnostics"}
    assert found["valid"] is False
    (one,) = found["diagnostics"]
    assert set(one) == {"code", "name", "severity", "path", "message", "why", "help", "spans", "fix"}
    assert (one["code"], one["path"]) == ("RC132", "stages.learn.kind")
    (span,) = one["spans"]
    assert span == {"file": "bad.yaml", "line": 5, "column": 11, "end_line": 5, "end_column": 12, "label": ""}
    assert json.loads(two.call("validate", "good.yaml", "--format", "json").out)["valid"] is True


def test_lines_for_other_tools(two):
    """Concise is one line a finding, github a workflow command; both on stdout."""
    assert two.call("validate", "bad.yaml", "--format", "concise").out.startswith("bad.yaml:5:11: error RC132 ")
    line = two.call("validate", "bad.yaml", "--format", "github").out
    assert line.startswith("::error title=RC132 bad-value,file=bad.yaml,line=5,col=11,endLine=5,endColumn=12::")
    assert json.loads(two.call("validate", "bad.yaml", "--format", "sarif").out)["runs"][0]["results"]


def test_machine_output_is_whole_json(two):
    """plan, compile and schema print JSON on stdout and nothing else."""
    for command, key in (
        ("plan good.yaml --format json", "stages"),
        ("compile good.yaml --emit json", "stages"),
        ("schema", "properties"),
        ("schema graph", "properties"),
    ):
        ended = two.call(*command.split())
        assert (ended.code, ended.err) == (0, ""), command
        assert key in json.loads(ended.out), command


def test_a_run_speaks_on_stderr_in_plain_lines(two):
    """Progress goes to stderr without control characters when it is no terminal; stdout stays empty."""
    ended = two.call("run", "good.yaml")
    assert (ended.code, ended.out) == (0, "")
    assert "\x1b" not in ended.err
    assert "\r" not in ended.err
    told = [line.split(" ")[:2] for line in ended.err.splitlines()]
    begun = [["reading", "good.yaml"], ["small:", "checking"], ["loading", "torch"], ["checking", "stages.learn"]]
    begun += [["learn:", "new"], ["learn:", "attention"]]
    assert told == [*begun, ["learn:", "step"], ["learn:", "step"], ["done:", "runs/small/model,"]]


def test_a_quiet_run_says_nothing(two):
    """--quiet leaves only problems."""
    ended = two.call("run", "good.yaml", "--quiet")
    assert (ended.code, ended.out, ended.err) == (0, "", "")


def test_a_bug_of_ours_leaves_a_file(two, monkeypatch):
    """What no code explains exits 3 with one line, and the trace lies in a file."""
    monkeypatch.setattr(cli.commands, "recipes_in", lambda _paths: 1 / 0)
    ended = two.call("validate", "good.yaml")
    assert ended.code == 3
    assert ended.err.count("\n") == 1
    path = Path(ended.err.partition("recipe; ")[2].partition(" says where")[0])
    assert path.parent == Path(tempfile.gettempdir())
    assert "ZeroDivisionError" in path.read_text()
    path.unlink()


def test_a_full_standard_output_is_no_bug_of_ours(two, monkeypatch):
    """Output that cannot be written exits 1 with a line that says so."""

    def full(_paths):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cli.commands, "recipes_in", full)
    ended = two.call("validate", "good.yaml")
    assert (ended.code, ended.err) == (1, "cannot write: No space left on device\n")


def test_a_reader_that_leaves_early(tmp_path):
    """`recipec schema | head -1` ends without a word on stderr."""
    reading, writing = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-m", "recipec", "schema"], stdout=writing, stderr=subprocess.PIPE, cwd=tmp_path
    ) as process:
        os.close(writing)
        os.read(reading, 10)
        os.close(reading)
        assert process.communicate()[1] == b""
    assert process.returncode == -signal.SIGPIPE  # 141 in a shell: it is not the 1 of findings
    assert not list(tmp_path.iterdir())


def test_no_colour_where_none_is_wanted(two, monkeypatch):
    """NO_COLOR and a pipe both give plain text."""
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in two.call("validate", "bad.yaml").err


def test_a_slot_is_listed(two):
    """`ls components SLOT` and `ls SLOT` list the components of one slot alone."""
    lines = two.call("ls", "components", "loss").out.splitlines()
    assert "loss/clipped" in {line.split()[0] for line in lines}
    assert all(line.startswith("loss/") for line in lines)
    assert two.call("ls", "loss").out.splitlines() == lines
    assert "did you mean `loss`" in two.call("ls", "components", "lossy").err


def test_fix_moves_keys_into_their_sections(folder):
    """Keys of a stage that belong to a section are moved there: a new one, one in braces, one of lines."""
    keys = "    lora_r: 16\n    lora_alpha: 32\n    weight_decay: 0.1\n"
    recipe = SFT.replace("    data:", f"{keys}    data:").replace(MODEL, "    from: org/model\n")
    recipe = recipe.replace("optimizer: {learning_rate: 1.0e-3}", "optimizer:\n      learning_rate: 1.0e-3")
    folder.write(f__yaml=recipe, a__jsonl=ROWS)
    assert folder.call("validate", "f.yaml", "--fix").code == 0
    text = (folder.path / "f.yaml").read_text()
    assert "    policy: {lora: {r: 16, alpha: 32}}\n    data:" in text
    assert "    optimizer:\n      weight_decay: 0.1\n      learning_rate: 1.0e-3\n" in text


def test_fix_writes_what_a_value_is_here(folder):
    """A switch of another tool is moved as the value that it stands for, and a number as it is."""
    keys = "    bf16: true\n    use_remove_padding: true\n    save_steps: 100\n"
    recipe = SFT.replace("    data:", f"{keys}    data:").replace(MODEL, "    from: org/model\n")
    folder.write(f__yaml=recipe, a__jsonl=ROWS)
    assert folder.call("validate", "f.yaml", "--fix").code == 0
    text = (folder.path / "f.yaml").read_text()
    assert "    policy: {dtype: bfloat16}\n    attention: {type: packed}\n" in text
    assert "save_every: 100" in text


def test_a_new_recipe_overwrites_no_file(tmp_path, monkeypatch, capsys):
    """Data of another recipe stay as they are, and the message has a command that works; equal files may be there."""
    monkeypatch.chdir(tmp_path)
    for arguments, expected in [
        (["maths"], 0),
        (["maths", "other.yaml"], 0),
        (["maths", "third.yaml"], 1),
        (["maths", "maths/third.yaml"], 0),
    ]:
        if expected == 1:
            Path("data/sums.jsonl").write_text("mine\n")
        monkeypatch.setattr(sys, "argv", ["recipec", "new", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert (ended.value.code or 0) == expected
        if expected == 1:
            assert "data/sums.jsonl already exists, and is not overwritten" in (said := capsys.readouterr().err)
            assert said.rstrip().endswith("recipec new maths maths/third.yaml")
    assert Path("data/sums.jsonl").read_text() == "mine\n"
