"""The nouns every study ends with: Estimate, Check, Claim, Decision, Money."""

from ldlab.estimate.conclusions import (
    GRADES,
    VERDICT_MEANS,
    Check,
    Claim,
    Decision,
    Grade,
    Status,
    Verdict,
)
from ldlab.estimate.effect import (
    COMPLIERS_ASSUME,
    Estimate,
)
from ldlab.estimate.kpis import GuardRailResult, KpiResult, Moved, Rail
from ldlab.estimate.money import (
    Money,
    Sensitivity,
)
from ldlab.estimate.text import (
    Noun,
    Printed,
    chance_in_words,
    format_chance,
    format_money,
    format_number,
    level_in_words,
    rows_to_html,
)

__all__ = [
    "COMPLIERS_ASSUME",
    "GRADES",
    "VERDICT_MEANS",
    "Check",
    "Claim",
    "Decision",
    "Estimate",
    "Grade",
    "GuardRailResult",
    "KpiResult",
    "Money",
    "Moved",
    "Noun",
    "Printed",
    "Rail",
    "Sensitivity",
    "Status",
    "Verdict",
    "chance_in_words",
    "format_chance",
    "format_money",
    "format_number",
    "level_in_words",
    "rows_to_html",
]
