"""Tests run on one thread, so that a figure printed here is the figure printed there."""

import torch

torch.set_num_threads(1)
