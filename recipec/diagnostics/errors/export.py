"""Export of models: RC936 to RC938."""

from __future__ import annotations

from collections.abc import Sequence

from recipec.diagnostics.model import Finding, diagnostic
from recipec.diagnostics.phrases import listed


@diagnostic("RC936", "no-policy")
def no_policy(run: str, stage: str, finished: Sequence[str]) -> Finding:
    """The run directory has no finished policy of the stage.

    Why it matters: there is nothing to export or to evaluate.
    Example: a run that was interrupted in its first stage, or a misspelt `--stage`.
    How to fix: name a finished stage, or run the recipe to its end.
    """
    have = f"finished: {listed(finished)}" if finished else "no stage is finished: run the recipe to its end"
    return Finding(f"{run} has no policy of stage `{stage}`", help=have)


@diagnostic("RC937", "adapter-base-not-on-hub")
def base_not_on_hub(stage: str) -> Finding:
    """An adapter is exported alone, and the weights under it are not on the Hugging Face Hub.

    Why it matters: an adapter names its base by a name of the hub; without one, no tool can load it.
    Example: an adapter for a model of a folder, of a package, or of an earlier stage.
    How to fix: give `--merge`: the export is then one plain model.
    """
    return Finding(f"the weights under the adapter of stage `{stage}` are not on the hub", help="give --merge")


@diagnostic("RC938", "upload-refused")
def upload_refused(repository: str, problem: str, remedy: str = "") -> Finding:
    """The Hugging Face Hub does not take the exported model.

    Why it matters: nothing was uploaded, or not all of it; the run directory is unchanged.
    Example: no account is logged in, the token may not write to the organization, or the hub cannot be reached.
    How to fix: log in by `hf auth login` with a token that may write there, or export to a folder.
    """
    fix = remedy or "check that the token may write there; `recipec export RUN --to FOLDER` writes a folder"
    return Finding(f"the hub does not take `{repository}`: {problem}", help=fix)
