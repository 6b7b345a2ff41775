"""Frames with a known effect, per unit: what a study should find, tried before it meets a real program."""

from ldlab.simulate.experiment import ARMS, nudges
from ldlab.simulate.worlds import Academy, World, academy, observational, panel, randomised

__all__ = ["ARMS", "Academy", "World", "academy", "nudges", "observational", "panel", "randomised"]
