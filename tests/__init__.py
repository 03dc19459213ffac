"""Tests, one room for each of the package; helpers that several rooms share are in `support`."""
