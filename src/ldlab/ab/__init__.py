"""Cross-sections: difference in means, regression adjustment, percent effect, effect on those who came."""

from ldlab.ab.compliers import (
    INSTRUMENT,
    INSTRUMENT_ADJUSTED,
    Compliers,
    complier_effect,
    complier_estimates,
    compliers,
)
from ldlab.ab.means import (
    ADJUSTED,
    ANCOVA,
    CONSTANT,
    DIFFERENCE,
    SMALLEST_RATIO,
    ErrorKind,
    PercentEffect,
    arm_table,
    difference_in_means,
    estimates,
    percent_effect,
    regression_adjusted,
)

__all__ = [
    "ADJUSTED",
    "ANCOVA",
    "CONSTANT",
    "DIFFERENCE",
    "INSTRUMENT",
    "INSTRUMENT_ADJUSTED",
    "SMALLEST_RATIO",
    "Compliers",
    "ErrorKind",
    "PercentEffect",
    "arm_table",
    "complier_effect",
    "complier_estimates",
    "compliers",
    "difference_in_means",
    "estimates",
    "percent_effect",
    "regression_adjusted",
]
