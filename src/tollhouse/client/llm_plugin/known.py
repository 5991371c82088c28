"""The gateway's models as they were when somebody asked last: a small file in the folder of `llm`."""

import json
from collections.abc import Sequence
from pathlib import Path

import llm

from tollhouse.client.files import write_private

MAX_MODELS = 5_000


def known_models() -> tuple[str, ...]:
    """Their names; none before the first refresh, or where the file cannot be read."""
    try:
        kept = json.loads(_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ()
    names = kept.get("models") if isinstance(kept, dict) else None
    if not isinstance(names, list):
        return ()
    return tuple(name for name in names[:MAX_MODELS] if isinstance(name, str) and name)


def remember(where: str, names: Sequence[str]) -> None:
    """Replaces what is known."""
    kept = {"server": where, "models": list(names[:MAX_MODELS])}
    write_private(_file(), json.dumps(kept, indent=1).encode())


def _file() -> Path:
    folder: Path = llm.user_dir()  # type: ignore[no-untyped-call]
    return folder / "tollhouse-models.json"
