"""The upload of an exported model to the Hugging Face Hub."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recipec.diagnostics.errors import export as errors
from recipec.diagnostics.model import RecipeError
from recipec.diagnostics.phrases import first_line
from recipec.host.packages import runtime_packages
from recipec.run.export import export

HUB = "hub:"


def upload(run: Path, repository: str, stage: str | None = None, *, merge: bool = False, public: bool = False) -> str:
    """Export the policy of a stage into a repository of the hub, and return its address.

    The repository is created if it does not exist: private, unless ``public``.  One that exists keeps its visibility.
    The account is checked before anything is written.

    Raises:
        RecipeError: RC938, the hub refuses or cannot be reached; those of :func:`recipec.run.export.export`.
    """
    with runtime_packages():
        from huggingface_hub import HfApi  # noqa: PLC0415 - only an upload needs it
    hub = HfApi()
    with _refusals(repository):
        hub.whoami()
        address = str(hub.create_repo(repository, private=not public, exist_ok=True))
    folder = run / f".upload-{uuid.uuid4().hex[:8]}"
    try:
        export(run, folder, stage, merge=merge)
        with _refusals(repository):
            hub.upload_folder(repo_id=repository, folder_path=folder, commit_message="Upload a model of recipec")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return address


@contextmanager
def _refusals(repository: str) -> Iterator[None]:
    from huggingface_hub import errors as hub_errors  # noqa: PLC0415

    try:
        yield
    except hub_errors.LocalTokenNotFoundError as error:
        raise RecipeError(
            errors.upload_refused(repository, "no account is logged in", "run `hf auth login`")
        ) from error
    except hub_errors.OfflineModeIsEnabled as error:
        problem = "HF_HUB_OFFLINE is set"
        raise RecipeError(errors.upload_refused(repository, problem, "unset HF_HUB_OFFLINE")) from error
    except hub_errors.HFValidationError as error:
        raise RecipeError(errors.upload_refused(repository, first_line(error), "write hub:OWNER/NAME")) from error
    except Exception as error:  # those of the network are of a package that changes with the client's version
        raise RecipeError(errors.upload_refused(repository, first_line(error))) from error
