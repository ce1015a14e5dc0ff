"""Counter-based randomness: every draw has its own seed, so nothing depends on what was drawn before."""

from __future__ import annotations

import hashlib

import numpy as np


def rng_for(*key: int | str) -> np.random.Generator:
    """Return the generator of one key, such as (recipe seed, stage, step, prompt, sample).

    >>> rng_for(0, "explore", 3).random() == rng_for(0, "explore", 3).random()
    True
    """
    seed = hashlib.sha256("\x1f".join(f"{type(k).__name__}:{k}" for k in key).encode()).digest()[:16]
    return np.random.Generator(np.random.Philox(key=np.frombuffer(seed, dtype=np.uint64)))
