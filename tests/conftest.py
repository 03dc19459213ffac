"""Tests run on one thread, so that a figure printed here is the figure printed there.

The variable is for threads that tests start and for child processes; PyTorch reads it when it is loaded.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

torch.set_num_threads(1)
