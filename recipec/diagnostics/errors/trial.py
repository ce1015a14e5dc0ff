"""What the trial of first rows finds: RC753 to RC755, RC757 to RC759, RC922 to RC929, RC939 to RC949."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from recipec.diagnostics.model import Finding, Span, diagnostic, file_span
from recipec.diagnostics.phrases import listed


@diagnostic("RC922", "trial-episodes-fail")
def episodes_fail(failed: int, episodes: int, problems: Sequence[str]) -> Finding:
    """Every trial episode of an environment failed, or `reset` or `step` returned what is not an answer.

    What it checks: the first tasks of the environment are played with fixed answers, without a model.
    Why it matters: the episodes of the policy would fail as well, and the stage would stop at its first step (RC785).
    Example: `step` raises an exception or returns a tuple, or the prompt is longer than the model's positions.
    How to fix: correct the environment; `recipec try` shows the observations and the answers.
    """
    message = f"{failed} of {episodes} trial episodes failed: {_first(problems)}"
    return Finding(message, help=_remedy(problems[0]), path=_key(problems[0]))


@diagnostic("RC923", "some-trial-episodes-fail", "warning")
def some_episodes_fail(failed: int, episodes: int, problems: Sequence[str], action: str = "") -> Finding:
    """The environment fails on some of the fixed answers of the trial.

    Why it matters: a policy may write anything. A stage stops when more than a fifth of a step's episodes fail (RC785).
    Example: `step` converts the action to a number and does not expect other text.
    How to fix: answer an action that cannot be read with an observation that says so.
    """
    after = f" after the answer {action!r}" if action else ""
    remedy = "" if action else "let `reset` take every task, or leave the task out of `tasks`"
    remedy = _remedy(problems[0], "step" if action else "reset") or remedy
    message = f"{failed} of {episodes} trial episodes failed{after}: {_first(problems)}"
    return Finding(message, help=remedy, path=_key(problems[0]))


@diagnostic("RC924", "fewer-rows-than-a-step", "warning")
def fewer_rows(key: str, rows: int, per_step: int, unit: str) -> Finding:
    """The data has fewer rows than one step of the budget takes.

    Why it matters: every step takes all rows, so a step is smaller than the recipe says.
    Example: 4 rows and `prompts_per_step: 16`.
    How to fix: add rows, or lower the number.
    """
    count = f"{rows} row{'s' if rows != 1 else ''}"
    return Finding(
        f"the data has {count}, and `{unit}` is {per_step}: a step takes {rows}", path=f"{key}.budget.{unit}"
    )


@diagnostic("RC925", "unknown-characters", "warning")
def unknown_tokens(file: str, row: int, character: str) -> Finding:
    """A row has characters that the tokenizer replaces by its token for unknown text.

    Why it matters: the model reads the same token for all of them, and cannot learn to write any.
    Example: accents or emoji with the tokenizer `characters`, which knows ASCII alone.
    How to fix: use the tokenizer `bytes` for a new model, or remove the characters.
    """
    what = f"the tokenizer does not know {character!r}" if character else "the tokenizer does not know a character"
    return Finding(what, file_span(file, row))


@diagnostic("RC926", "disk-too-small", "warning")
def disk_too_small(stage: str, needs: str, free: str, folder: str) -> Finding:
    """The plan of the unfinished stages needs more space than the disk of the run directory has.

    Why it matters: a run stops where it cannot write a checkpoint (RC761).
    Example: checkpoints of a model with 7 billion parameters on a disk with 20 GB free.
    How to fix: free space, choose another disk with `--out`, or set `budget.keep: 1`.
    """
    return Finding(f"the plan needs {needs} on disk, most of it for stage `{stage}`; {folder} has {free}")


@diagnostic("RC927", "memory-too-small", "warning")
def memory_too_small(stage: str, needs: str, free: str, device: str) -> Finding:
    """The plan of a stage needs more memory than the device has.

    Why it matters: the stage would stop with RC769, or the machine would swap.
    Example: full training of a model with 7 billion parameters on a device of 24 GB.
    How to fix: lower `budget.microbatch_tokens`, set `machine.train.gradient_checkpointing`, or train a LoRA adapter.
    """
    return Finding(f"stage `{stage}` needs about {needs} of memory, {device} has {free}")


@diagnostic("RC928", "same-trial-score", "warning")
def same_score(function: str, score: float, answers: int, spans: tuple[Span, ...], why: str, *, right: bool) -> Finding:
    """A reward function gives the same score to every answer of the trial.

    What it checks: the first two tasks are answered with the right answer, where a column such as `answer` has it, in
    several forms (as it is, in `<answer>` tags, in a box, in a code block), and with wrong and empty answers.
    Why it matters: a reward that does not depend on the answer teaches nothing: all advantages are 0 (RC930).
    Example: `return [1.0 if a in c else 0.0 ...]` where a completion `c` is a list of chat messages.
    How to fix: see with `recipec try RECIPE` what the function gets and returns. There is nothing to fix if it asks for
    a form that the trial does not know; `recipec try RECIPE --answer TEXT` then shows another score for such a TEXT.
    """
    among = ", right ones among them" if right else ""
    remedy = "`recipec try RECIPE` shows what the function gets and returns for each answer"
    message = f"reward function `{function}` gives {score:g} to all {answers} answers of the trial{among}"
    return Finding(message, spans, help=f"{why}{remedy}" if why else "")


@diagnostic("RC929", "no-trial-score", "warning")
def no_score(function: str, answers: int, spans: tuple[Span, ...]) -> Finding:
    """A reward function returns None for every answer of the trial.

    Why it matters: None says that the function does not apply to a row; a row that no reward scores teaches nothing.
    Example: `compute_score` computes a number and does not `return` it.
    How to fix: return a number; or remove the reward, if it applies to no row of this data.
    """
    return Finding(f"reward function `{function}` returns None for all {answers} answers of the trial", spans)


@diagnostic("RC940", "slow-reward", "warning")
def slow_reward(
    function: str, took: float, rows: int, per_step: int, expected: float, limit: float | None, spans: tuple[Span, ...]
) -> Finding:
    """A reward function is so slow that it would take longer than a minute of every step.

    What it checks: the seconds of a second call on the answers of the trial, times the answers of a step.
    Why it matters: the device waits for it. A call that takes longer than `timeout` ends the run (RC747).
    Example: a request to a service, or a sleep, for each answer, one after the other.
    How to fix: score the answers of a batch in parallel inside the function, or compute what does not depend on the
    answer once, when the file is loaded. A language model that judges is reward `judge`, which asks in parallel.
    """
    over = f", more than its `timeout` of {limit:g} s" if limit is not None else ""
    message = f"reward function `{function}` took {took:.1f} s for {rows} answers: a step has {per_step}"
    return Finding(f"{message}, about {expected / 60:.0f} min{over}", spans)


@diagnostic("RC941", "equal-pairs", "warning")
def equal_pairs(file: str, row: int, found: int, rows: int, problem: str) -> Finding:
    """Pairs say of no answer, or of the wrong one, that it is better.

    What it checks: all rows of a local file of at most 50 MB: the answers of a pair are equal; the same pair is there
    the other way round; a column of scores, such as `score_chosen`, is lower than that of the rejected answer in most
    rows.
    Why it matters: equal answers have no gradient, contradicting pairs cancel, and pairs the other way round train the
    worse answers.
    Example: `{"prompt": "2+2=", "chosen": "4", "rejected": "4"}`.
    How to fix: remove these rows; where the columns are the wrong way round, write `columns: {chosen: rejected,
    rejected: chosen}`.
    """
    return Finding(f"{problem} in {found} of {rows} rows", file_span(file, row))


@diagnostic("RC942", "held-out-in-training", "warning")
def held_out_in_training(
    evaluation: str, stages: Sequence[str], same: int, prompts: int, place: tuple[str, int], there: tuple[str, int]
) -> Finding:
    """Prompts of an evaluation are prompts of a stage.

    What it checks: the last message of the user, or the prompt, with white space folded, in local files of at most
    50 MB.
    Why it matters: a model may have learned these answers by heart; the result does not say how it answers others.
    Example: a held-out file that was drawn from the training file without removing its rows there.
    How to fix: remove the rows from one of the files; `data.val_share` and `data.part` divide one file into two parts.
    An evaluation of training rows on purpose is accepted by `allow: {RC942: "the questions of training"}` in the stage.
    """
    (here,) = file_span(*place)
    (other,) = file_span(*there)
    names = f"stage{'s' if stages[1:] else ''} {listed(stages)}"
    message = f"{same} of {prompts} prompts of evaluation `{evaluation}` are also prompts of {names}"
    label, remedy = "the same prompt in training", ""
    if place == there:
        label = "the same row in training"
        remedy = f"divide {place[0]}: `val_share` and the same `val_seed` in the stage and here, and `part: val` here"
    elif place[0] == there[0]:
        label = "the same prompt in another row, which is trained"
        remedy = f"rows of {place[0]} that have the same prompt fall into both parts: keep one of them"
    return Finding(message, (here, other.labelled(label)), help=remedy, path=f"stages.{stages[0]}.data")


@diagnostic("RC943", "uneven-column", "warning")
def uneven_column(file: str, row: int, column: str, kinds: Mapping[str, int]) -> Finding:
    """A column that a reward function asks for is missing, null or of another type in some rows.

    What it checks: all rows of a local file of at most 50 MB. The place is the first row that differs from most.
    Why it matters: the function gets None, or a value that is equal to none that it expects: "7" is not 7.
    Example: `"answer": 7` in some rows and `"answer": "7"` in the others.
    How to fix: give every row a value of one type, or let the function handle the others.
    """
    have = ", ".join(f"{kind} in {count}" for kind, count in kinds.items())
    return Finding(f"not all rows have the same kind of `{column}`: it is {have}", file_span(file, row))


@diagnostic("RC944", "repeated-rows", "warning")
def repeated_rows(file: str, row: int, repeated: int, rows: int) -> Finding:
    """Most rows of the data are copies of other rows.

    What it checks: all columns of all rows of a local file with 64 rows or more and at most 50 MB; more than half of
    them occur before.
    Why it matters: an epoch shows the same rows again and again, and the model learns them by heart.
    Example: a file that was appended to itself, or a script that wrote the same row in every turn of a loop.
    How to fix: remove the copies; more passes over the data are `budget.epochs`, and a source of a mixture that counts
    more has a `weight`.
    """
    return Finding(f"{repeated} of {rows} rows are copies of rows before them", file_span(file, row))


@diagnostic("RC945", "answer-repeats-prompt", "warning")
def repeated_prompt(file: str, row: int, column: str, prompt: str, repeated: int, rows: int) -> Finding:
    """Most answers begin with the text of their prompt.

    What it checks: answers as text (`completion`, `chosen`, `rejected`) of all rows of a local file of at most 50 MB.
    Why it matters: prompt and answer are put together for training, so that the text would have the prompt twice, and
    the model would learn to repeat it.
    Example: `{"prompt": "2+2=", "chosen": "2+2=4", "rejected": "2+2=5"}`.
    How to fix: take the prompt out of the answers.
    """
    message = f"`{column}` begins with the text of `{prompt}` in {repeated} of {rows} rows"
    return Finding(message, file_span(file, row))


@diagnostic("RC939", "context-full", "warning")
def context_full(full: int, episodes: int, positions: int) -> Finding:
    """Trial episodes ended early, because the next prompt did not fit into the context of the model.

    Why it matters: the policy never gets further, and the episode counts as truncated.
    Example: a model with 64 positions, and an observation of 200 characters.
    How to fix: let observations be shorter, show less of the past (`environment.history`), or use a model with more
    positions (`policy.scratch.max_positions`).
    """
    fit = f": the model has {positions} positions"
    return Finding(f"{full} of {episodes} trial episodes ended because the next prompt did not fit{fit}")


@diagnostic("RC946", "answer-over-length", "warning")
def answer_over_length(file: str, row: int, column: str, longer: int, rows: int, longest: int, limit: int) -> Finding:
    """Right answers have more tokens than a completion may have.

    What it checks: the column that a reward compares with, in the first 2000 rows of a local file of at most 50 MB;
    with a `tag`, the tags count as well. Of an environment of the user's, texts that its class compares an action with.
    Why it matters: the right answer to these rows cannot be written, so their reward is always that of a wrong one.
    Example: `max_completion_length: 8` and the answer "the currency of the country is the euro".
    How to fix: raise `max_completion_length` of the sampler, or name the column that holds the short answer.
    """
    message = (
        f"`{column}` has up to {longest} tokens, more than `max_completion_length: {limit}`, in {longer} of {rows}"
    )
    return Finding(
        f"{message} rows; the first is row {row} of {file}",
        help=f"raise `sampler.max_completion_length` to at least {longest}, and add what is written before an answer",
        path="sampler.max_completion_length",
    )


@diagnostic("RC755", "action-over-length", "warning")
def action_over_length(action: str, length: int, limit: int, key: str) -> Finding:
    """An action that the user's environment knows has more tokens than a turn may have.

    What it checks: texts that the class of the environment compares something with, read from its file.
    Why it matters: the policy cannot write the action, whatever it learns.
    Example: `max_turn_length: 3` and `if action == "go north"`.
    How to fix: raise `sampler.max_turn_length`, or give the actions shorter names.
    """
    message = f"the environment knows {action!r}, which has {length} tokens, and a turn has at most {limit}"
    return Finding(message, path=key)


@diagnostic("RC753", "scores-differ", "warning")
def scores_differ(
    function: str, first: float | None, second: float | None, answer: str, spans: tuple[Span, ...]
) -> Finding:
    """A reward function gives the same answers other scores when it is called again.

    Why it matters: the policy is trained on noise, and a run that was stopped does not continue to the same weights.
    Example: `random.random()`; a counter that is kept between calls; a judge at a temperature above 0.
    How to fix: compute the score from the answer and the columns alone; a draw is seeded by them.
    """
    one, two = ("None" if score is None else f"{score:g}" for score in (first, second))
    message = f"reward function `{function}` gives {one} and then {two} to the same answer, {answer!r}"
    return Finding(message, spans)


@diagnostic("RC754", "tag-unread", "warning")
def tag_unread(level: str, tag: str) -> Finding:
    """Prompts ask for an answer in a tag, and a reward compares the whole completion.

    What it checks: `exact_match` without `tag`, and `</answer>` in most prompts.
    Why it matters: with the tags around it, no answer is equal to the right one.
    Example: a template with "Write <answer></answer>." and `{type: exact_match}`.
    How to fix: add `tag: answer` to the reward, or let the prompt ask for the answer alone.
    """
    return Finding(f"the prompts ask for `</{tag}>`, and the reward reads the whole completion", path=level)


@diagnostic("RC757", "worked-answers", "warning")
def worked_answers(file: str, row: int, column: str, mark: str, marked: int, rows: int, level: str) -> Finding:
    r"""The right answers are whole solutions, and a reward compares completions with all of their text.

    What it checks: `####` or `\boxed{` in the column that `exact_match` or `answer_match` compares with, in the first
    2000 rows of a local file of at most 50 MB.
    Why it matters: no completion is equal to a whole solution, so that the reward is always that of a wrong answer.
    Example: the column `answer` of GSM8K, `"2 + 3 = 5 apples\n#### 5"`, with `{type: exact_match}`.
    How to fix: use `math_verify`, which reads what follows `####` and what is in `\boxed{}`; or write the answers into
    a column of their own and name it by `answer`.
    """
    where = f"`{column}` has `{mark}` in {marked} of {rows} rows, and is compared as a whole"
    return Finding(where, file_span(file, row), path=level)


@diagnostic("RC758", "observation-unseen", "warning")
def observation_unseen(template: str, key: str) -> Finding:
    """The template of an environment writes neither the observation nor the history.

    What it checks: the words `observation` and `history` in the text of `environment.template`.
    Why it matters: the policy answers without seeing what the environment says.
    Example: a template with "Open the door." and no `{{ observation }}`.
    How to fix: write `{{ observation }}` where the policy is to read it.
    """
    return Finding(f"{template} names neither `observation` nor `history`", path=key)


@diagnostic("RC759", "little-room", "warning")
def little_room(longest: int, limit: int, positions: int) -> Finding:
    """A prompt and a completion of `max_completion_length` have more tokens than the model has positions.

    What it checks: the longest prompt of the first rows of an `rl` stage or of an evaluation.
    Why it matters: answers to long prompts are cut earlier than the recipe says, and count as not finished.
    Example: prompts of 900 tokens and `max_completion_length: 512` with a model of 1,024 positions.
    How to fix: lower `sampler.max_completion_length` or `data.max_length`, or use a model with more positions.
    """
    left = f"{max(positions - longest, 0)} of {limit}"
    message = f"a prompt of {longest} tokens leaves {left} tokens for a completion: the model has {positions} positions"
    return Finding(message, path="sampler.max_completion_length")


@diagnostic("RC947", "answer-in-prompt", "warning")
def answer_in_prompt(file: str, row: int, column: str, shown: int, rows: int) -> Finding:
    """Most prompts contain their right answer, and no other one.

    What it checks: prompts of fewer than 400 characters, after the template, in the first 2000 rows of a local file of
    at most 50 MB.
    Why it matters: the policy learns to copy, and the accuracy says nothing about prompts without the answer.
    Example: a template with `{{ question }} {{ answer }}`; a column `prompt` with the whole worked example.
    How to fix: leave the answer out of the column or the template. Tasks that show their answer on purpose, such as
    the larger of two numbers, are accepted by `allow: {RC947: "the answer is one of the numbers"}` in the stage.
    """
    message = f"the right answer, column `{column}`, is in the prompt of {shown} of {rows} rows"
    return Finding(message, file_span(file, row))


@diagnostic("RC948", "markup-in-text", "warning")
def markup_in_text(file: str, row: int, column: str, markup: str, found: int, rows: int) -> Finding:
    """Most texts of the data contain tokens of a chat template.

    What it checks: prompts and answers in all rows of a local file of at most 50 MB.
    Why it matters: the chat template and the end of an answer are added here. Markup in a text is read as
    letters, so the model would see, or learn to write, the markup twice.
    Example: `"completion": "4<|im_end|>"`; `"prompt": "<s>[INST] 2+2= [/INST]"`.
    How to fix: remove the markup from the data; `chat: true`, or a column of messages, adds that of the model.
    """
    return Finding(f"`{column}` has `{markup}` in {found} of {rows} rows", file_span(file, row))


@diagnostic("RC949", "equal-prompts", "warning")
def equal_prompts(rows: int, prompt: str) -> Finding:
    """All prompts of the data are the same text.

    What it checks: the prompts, after the template, of all rows of a local file with 8 rows or more and at most 50 MB.
    Why it matters: the policy cannot know which row it answers.
    Example: a template with `{question}`; in Jinja a column is `{{ question }}`.
    How to fix: write columns as `{{ NAME }}` in the template. One prompt for all rows on purpose is accepted by
    `allow: {RC949: "one prompt"}` in the stage.
    """
    return Finding(f"all {rows} rows have the same prompt, {prompt!r}")


_REMEDIES = {
    "timeout": "let `{}` answer within `environment.timeout`, or raise it",
    "replay": "draw only from the `seed` that `reset` gets, or set `environment.replayable: false`",
    "garbage": "return a text, or a mapping with `observation`, and `reward` or `terminated` where there is one",
    "crashed": "the process of the environment died: it may have called `exit`, or used more memory than it may",
    "PermissionError": "an environment writes no files and opens no sockets: keep what it needs in the object",
    "EOFError": "`input` has nothing to read: let `step` take what it needs from the action",
    "KeyError": "`reset` gets a task as `tasks` made it, or the columns of a row: look the key up there",
    "its prompt has no tokens": "let `reset` return a text, and let the template write it as `{{{{ observation }}}}`",
    "ModuleNotFoundError": "files of `use` do not import each other: move the code into one file, or install it",
    "FileNotFoundError": "name the file from the folder of your code: `Path(__file__).parent / NAME`",
}
"""What to do about an episode that failed, by how the reason begins; `{}` is the method."""


def _remedy(problem: str, method: str = "step") -> str:
    begun = (problem, problem.partition(": ")[2])  # the place in the user's file may come first
    text = next((remedy for start, remedy in _REMEDIES.items() if any(one.startswith(start) for one in begun)), "")
    return text.format(method)


def _key(problem: str) -> str:
    """Name the key that a reason is about, or return an empty text."""
    return "environment.replayable" if problem.startswith("replay") else ""


def _first(problems: Sequence[str]) -> str:
    return "; ".join(list(dict.fromkeys(problems))[:3])
