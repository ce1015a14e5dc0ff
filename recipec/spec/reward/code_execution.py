"""The reward of programs that pass tests."""

from typing import ClassVar, Literal

from recipec.component import param
from recipec.spec.reward.definition import TEXT, Reward, level


@level(requires=TEXT, impl="recipec.runtime.reward.code_execution:CodeExecution")
class CodeExecution(Reward):
    """Run the Python program of a completion on the tests of its row.

    The program is the last Markdown block marked as Python or not marked, else the whole text. Tests are a list of
    statements such as ``assert add(1, 2) == 3``, text with Python code, or pairs of ``input`` and ``output`` as texts,
    which are compared with what the program prints, without white space at the ends of lines.

    Every test is a new process with limits of time, memory and output, in an empty temporary folder. Python refuses
    it sockets, further processes and changes of files elsewhere. This is NOT a security boundary: a hostile program
    may get around it. A run therefore needs the environment variable HF_ALLOW_CODE_EVAL=1 (RC961), which belongs into
    a container without a network and without secrets.

    References:
        Chen et al., `Evaluating Large Language Models Trained on Code <https://arxiv.org/abs/2107.03374>`_, 2021.
        Hendrycks et al., `APPS <https://arxiv.org/abs/2105.09938>`_, 2021: tests of input and output.
        Austin et al., `MBPP <https://arxiv.org/abs/2108.07732>`_, 2021: tests as assertions.
    """

    preflight: ClassVar[str] = "recipec.runtime.reward.code_execution:check"
    outcomes: ClassVar[tuple[str, str]] = ("passed", "failed")
    judges: ClassVar[bool] = True

    type: Literal["code_execution"] = "code_execution"
    tests: str = param("tests", "Column with the tests of a row, or their JSON text.")
    tag: str | None = param(None, "Read the last `<TAG>…</TAG>` alone; if omitted, all after the last `</think>`.")
    score: Literal["all", "share"] = param(
        "all", "Reward programs that pass every test, or between `failed` and `passed` by the share of passed tests."
    )
    max_tests: int | None = param(
        None, "Use at most this number of tests of a row, from the first.", unit="tests", ge=1
    )
    passed: float = param(1.0, "Reward of a program that passes every test.", unit="reward units")
    failed: float = param(0.0, "Reward of a program that passes none, or not all.", unit="reward units")
    timeout: float = param(10.0, "Maximum time for one test; beyond it, the test has failed.", unit="seconds", gt=0)
    memory: int = param(1024, "Address space of a program, at most.", unit="MiB", ge=64)
    output: int = param(
        16, "Size of the output of a program and of every file that it writes, at most.", unit="MiB", ge=1
    )
    processes: int = param(4, "Number of programs that run at the same time.", unit="processes", ge=1)

    def bounds(self) -> tuple[float, float]:
        """Return the rewards of no test and of every test, the lower first."""
        return min(self.passed, self.failed), max(self.passed, self.failed)

    def outcome_values(self) -> tuple[float, float] | None:
        """Return the two values of the reward; None where a share of tests counts."""
        return None if self.score == "share" else super().outcome_values()
