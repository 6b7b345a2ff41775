"""YAML -> Program: what was wanted, agreed, done and measured; and Study, a program with its checked data."""

from ldlab.program.cross_products import CrossProducts
from ldlab.program.experiment_sums import Experiment, KpiSums
from ldlab.program.faults import Fault, InputError, LdlabError, did_you_mean, shorten
from ldlab.program.model import Objectives, Program, json_schema
from ldlab.program.reading import (
    load_objectives,
    load_program,
    load_programs,
    program_files,
    project_root,
)
from ldlab.program.sections import PERCENT_OF_BASELINE, PERCENTAGE_POINTS
from ldlab.program.study import Question, Study

__all__ = [
    "PERCENTAGE_POINTS",
    "PERCENT_OF_BASELINE",
    "CrossProducts",
    "Experiment",
    "Fault",
    "InputError",
    "KpiSums",
    "LdlabError",
    "Objectives",
    "Program",
    "Question",
    "Study",
    "did_you_mean",
    "json_schema",
    "load_objectives",
    "load_program",
    "load_programs",
    "program_files",
    "project_root",
    "shorten",
]
