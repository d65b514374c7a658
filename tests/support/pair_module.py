"""A pair of numpy models over small pictures, as a module that a test writes into a file."""

CLASSES = ("ant", "bee", "cat", "dog", "eel")
MODULE = """
import numpy as np
from pilotfish.models import Preprocessing

rng = np.random.default_rng(0)
W = rng.standard_normal((48, 5)).astype(np.float32) * 0.4
V = W + rng.standard_normal((48, 5)).astype(np.float32) * 0.25

def base(batch):
    return batch.reshape(len(batch), -1) @ W

def saver(batch):
    return batch.reshape(len(batch), -1) @ V

base.preprocessing = Preprocessing(size=(4, 4), resize=None, mean=(0.5,) * 3, std=(0.25,) * 3)
saver.preprocessing = Preprocessing(size=(4, 4), resize=4, mean=(0.5,) * 3, std=(0.25,) * 3)
base.weights_hash, saver.weights_hash = "b" * 64, "s" * 64
"""
