"""Fills the templates of the report: one file with its style and scripts, which runs no other script."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from recipec.host.templates import render_own
from recipec.package_files import shipped


def rendered(template: str, scripts: tuple[str, ...], values: Mapping[str, Any]) -> str:
    """Render a page; its policy allows these scripts by their hash, and nothing else."""
    home = shipped("templates") / "report"
    texts = {
        name: (home / name).read_text(encoding="utf-8") for name in ("chart.html.j2", template, "page.css", *scripts)
    }
    script = "".join(texts[name] for name in scripts)
    own = {
        "style": texts["page.css"],
        "script": script,
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }
    return render_own(texts["chart.html.j2"] + texts[template], {**values, **own}, html=True)


def embedded(data: Any) -> str:
    r"""Write data as JSON that cannot end the element it is in.

    >>> print(embedded(["</script>"]))
    ["\u003c/script>"]
    """
    return json.dumps(data, ensure_ascii=False).replace("<", "\\u003c").replace("\u2028", " ").replace("\u2029", " ")
