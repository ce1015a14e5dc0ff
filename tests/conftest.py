"""One torch thread in every test, and no deadlines: on busy cores threads wait for each other."""

import os

from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
