"""Estimate + checks -> claim, sentences, files: what may be said, and the pages that say it."""

from ldlab.report.assemble import load_results, make_brief, readable
from ldlab.report.brief import Brief
from ldlab.report.claim import claim, decide, deviations, grade, verdict
from ldlab.report.looks import earlier_looks, record_look
from ldlab.report.portfolio import Portfolio, make_portfolio
from ldlab.report.result import Result, conclude, load_result, save, write_whole
from ldlab.report.tables import CheckTable, ClaimTable, EstimateTable, claims

__all__ = [
    "Brief",
    "CheckTable",
    "ClaimTable",
    "EstimateTable",
    "Portfolio",
    "Result",
    "claim",
    "claims",
    "conclude",
    "decide",
    "deviations",
    "earlier_looks",
    "grade",
    "load_result",
    "load_results",
    "make_brief",
    "make_portfolio",
    "readable",
    "record_look",
    "save",
    "verdict",
    "write_whole",
]
