"""Both schools on one page: the frequentist and the Bayesian answer side by side, and why they part if they do."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
from scipy import stats

from ldlab.estimate import Check, Estimate, Noun, Printed, format_chance, format_number

CLOSE = 0.25  # standard errors: nearer than this, two answers (or a bound and zero) are the same to a reader
UNEVEN = 1.25  # ratio of two errors from which one interval is said to be wider
FEWER = 0.99  # share of observations below which two answers read different rows
OTHER_LIKELIHOODS = {
    "Student-t": "weighs extreme values less",
    "negative binomial": "takes the counts to be spread as one distribution has it",
    "cumulative logit": "reads the scale's categories, not their distances",
    "random intercepts": "takes the clusters to be spread normally",
    "log-normal, censored": "allows for durations that were still running",
}


class Schools(Printed, Noun):
    """The frequentist and the Bayesian answer to one question. Made by :func:`both_schools`.

    Attributes
    ----------
    frequentist, posterior
        The two answers.
    gap
        ``posterior.value`` less ``frequentist.value``, in effect units.
    agree
        Whether they lie within a quarter of the larger error and say the same of zero.
    contradict
        Whether what they say of zero cannot both be right: opposite signs, or one excludes it and the other
        holds it by more than a quarter of its error.
    reasons
        What was found to part them, in order; empty where they agree.
    sentence
        For a leader.
    check
        'both schools': failed where they contradict each other and no reason accounts for it.
    """

    frequentist: Estimate
    posterior: Estimate
    gap: float
    agree: bool
    contradict: bool
    reasons: tuple[str, ...] = ()
    sentence: str
    check: Check

    @property
    def table(self) -> pd.DataFrame:
        """One row for each school, as readers see it."""
        rows = []
        for school, e in (("frequentist", self.frequentist), ("Bayesian", self.posterior)):
            target = f"chance of {e.format(e.target, sign=True)} or better"
            rows.append(
                {
                    "school": school,
                    "method": e.method,
                    f"effect ({e.shown_unit})": e.format(e.value, sign=True),
                    f"{e.level:.0%} from": e.format(e.low, sign=True),
                    "to": e.format(e.high, sign=True),
                    "one-sided p": _p_text(1 - e.p_gain) if school == "frequentist" else "",
                    "chance of any gain": format_chance(e.p_gain) if school == "Bayesian" else "",
                    target: format_chance(e.p_target),
                }
            )
        return pd.DataFrame(rows)

    def _rows(self) -> list[tuple[str, str]]:
        f, b = self.frequentist, self.posterior
        return [
            ("in words", self.sentence),
            ("frequentist", f"{_answer(f)}; one-sided p {_p_text(1 - f.p_gain)} ({f.method}, {f.se_kind})"),
            ("Bayesian", f"{_answer(b)}; chance of any gain {format_chance(b.p_gain)} ({b.method})"),
        ]

    def _repr_html_(self) -> str:
        return super()._repr_html_() + self.table.to_html(border=0, index=False)


def both_schools(
    frequentist: Estimate | None,
    posterior: Estimate | None,
    *,
    prior_mean: float = 0.0,
    prior_sd: float = math.inf,
    beside: Sequence[Estimate] = (),
) -> Schools | None:
    """Hold the two answers against each other, and say what parts them.

    Reasons are tried in this order, and each has to show in the numbers: another estimand or scale; a stopping rule that
    widens the interval; another frequentist answer that the posterior agrees with (other covariates, the KPI before
    winsorising, units' own rates); the prior's pull, by the conjugate normal update (Gelman et al., Bayesian Data
    Analysis, 3rd ed., section 2.5); pooling of segments or arms; another likelihood; other rows. The last four
    account for a contradiction only where the two values lie within one standard error (extreme values: any distance).

    Parameters
    ----------
    frequentist, posterior
        Of the same comparison; None (nothing to compare) gives None.
    prior_mean, prior_sd
        The effect's prior, in effect units (``ldlab.bayes.priors(study).effect_mean`` and ``.effect_sd``).
    beside
        Other frequentist answers, such as the rest of ``ldlab.ab.estimates(study)``.
    """
    if frequentist is None or posterior is None:
        return None
    f, b = frequentist, posterior
    agree, contradict = _alike(f, b), _contradict(f, b)
    near = _near(f, b) and _same_question(f, b) and not contradict
    found = [] if near else _reasons(f, b, beside, prior_mean, prior_sd)
    because = next((text for text, accounts in found if accounts), "")
    reasons = tuple(text for text, _ in found)
    return Schools(
        frequentist=f,
        posterior=b,
        gap=b.value - f.value,
        agree=agree,
        contradict=contradict,
        reasons=reasons,
        sentence=_in_words(f, b, reasons, agree=agree, broken=contradict and not because),
        check=_check(f, b, contradict=contradict, because=because),
    )


def _says_of_zero(e: Estimate) -> int:
    return int(e.low > 0) - int(e.high < 0)


def _scale_of(f: Estimate, b: Estimate) -> float:
    errors = [e.se for e in (f, b) if math.isfinite(e.se)]
    return max(errors, default=math.inf)


def _alike(f: Estimate, b: Estimate) -> bool:
    return _near(f, b) and _same_question(f, b) and _says_of_zero(f) == _says_of_zero(b)


def _near(f: Estimate, b: Estimate) -> bool:
    return abs(b.value - f.value) <= CLOSE * _scale_of(f, b)


def _same_question(f: Estimate, b: Estimate) -> bool:
    return (f.estimand, f.scale, f.unit, f.kpi) == (b.estimand, b.scale, b.unit, b.kpi)


def _contradict(f: Estimate, b: Estimate) -> bool:
    of_f, of_b = _says_of_zero(f), _says_of_zero(b)
    if of_f == of_b:
        return False
    if of_f and of_b:
        return True
    holding = b if of_f else f
    margin = min(-holding.low, holding.high)
    return margin > CLOSE * holding.se


Reason = tuple[str, bool]  # what parts them, and whether it accounts for a contradiction


def _reasons(
    f: Estimate, b: Estimate, beside: Sequence[Estimate], prior_mean: float, prior_sd: float
) -> list[Reason]:
    tried = [
        _question(f, b),
        _stopping(f, b),
        _another_answer(f, b, beside),
        _prior(f, b, prior_mean, prior_sd),
        _pooling(f, b),
        _likelihood(f, b),
        _rows_read(f, b),
    ]
    return [reason for reason in tried if reason is not None]


def _question(f: Estimate, b: Estimate) -> Reason | None:
    if _same_question(f, b):
        return None
    asked = [f"{e.estimand} of {e.kpi} in {e.shown_unit}" for e in (f, b)]
    return f"they answer different questions ({asked[0]}; {asked[1]})", True


def _stopping(f: Estimate, b: Estimate) -> Reason | None:
    """An interval wider than its error alone makes it: by permutation, or one that allows for looks or several arms."""
    if not (math.isfinite(f.se) and f.has_interval):
        return None
    fixed = _fixed(f, f.value, f.se)
    if f.high - f.low < 1.05 * (fixed.high - fixed.low):
        return None
    text = (
        f"the frequentist range {_why_wide(f)} (its error alone gives "
        f"{f.format(fixed.low, sign=True)} to {f.format(fixed.high, sign=True)})"
    )
    return text, not _contradict(fixed, b)


def _why_wide(f: Estimate) -> str:
    if f.se_kind.startswith("permutation"):
        return "comes from dealing few clusters anew"
    return "allows for several looks or comparisons by design"


def _fixed(f: Estimate, value: float, se: float) -> Estimate:
    """The estimate with the plain interval of a value and its error."""
    law = stats.norm if f.df is None else stats.t(f.df)
    half = float(law.ppf((1 + f.level) / 2)) * se
    return f.model_copy(update={"value": value, "se": se, "low": value - half, "high": value + half})


def _another_answer(f: Estimate, b: Estimate, beside: Sequence[Estimate]) -> Reason | None:
    near = [e for e in beside if e.method != f.method and e.has_interval and _alike(e, b)]
    if not near:
        return None
    e = min(near, key=lambda other: abs(other.value - b.value))
    return f"the model agrees with the {e.method} ({_answer(e)}), not with the {f.method} that leads", True


def _prior(f: Estimate, b: Estimate, mean: float, sd: float) -> Reason | None:
    """The conjugate update of the frequentist answer, and whether it is what the model found."""
    if not (math.isfinite(sd) and math.isfinite(f.se) and sd > 0):
        return None
    kept = sd**2 / (sd**2 + f.se**2)
    expected = _fixed(f, kept * f.value + (1 - kept) * mean, math.sqrt(kept) * f.se)
    pull = expected.value - f.value
    if abs(pull) < CLOSE / 2 * f.se or pull * (b.value - f.value) <= 0:
        return None
    text = (
        f"the prior pulls the effect towards {f.format(mean, sign=True)} by about {f.format(abs(pull)).lstrip('−')} "
        f"{f.shown_unit} ({abs(f.value - mean) / sd:.1f} prior sds away before, prior sd "
        f"{format_number(sd, f.decimals)} {f.unit})"
    )
    near = abs(expected.value - b.value) <= CLOSE * f.se
    return text, near and not _contradict(expected, b)


def _within_one_error(f: Estimate, b: Estimate) -> bool:
    return abs(f.value - b.value) <= _scale_of(f, b)


def _pooling(f: Estimate, b: Estimate) -> Reason | None:
    if "partially pooled" not in b.method or "partially pooled" in f.method:
        return None
    return "the model draws segments or arms towards each other", _within_one_error(f, b)


def _likelihood(f: Estimate, b: Estimate) -> Reason | None:
    named = [(word, what) for word, what in OTHER_LIKELIHOODS.items() if word in b.method]
    if not named:
        return None
    text = " and ".join(f"{what} ({word})" for word, what in named)
    ratio = b.se / f.se if f.se > 0 else math.inf
    width = f", so its error is {ratio:.1f} times the other's" if not 1 / UNEVEN < ratio < UNEVEN else ""
    accounts = _within_one_error(f, b) or any(word == "Student-t" for word, _ in named)
    return f"the Bayesian model {text}{width}", accounts


def _rows_read(f: Estimate, b: Estimate) -> Reason | None:
    counts = [e.n.get("observations") for e in (f, b)]
    if None in counts:
        return None
    few, many = sorted(int(count) for count in counts if count is not None)
    if few >= FEWER * many:
        return None
    who = "frequentist answer" if counts[0] == few else "model"
    return f"the {who} leaves out {1 - few / many:.0%} of the rows", _within_one_error(f, b)


def _p_text(p: float) -> str:
    if math.isnan(p):
        return "not known"
    return "under 0.001" if p < 0.001 else "over 0.999" if p > 0.999 else f"{p:.3f}"


def _answer(e: Estimate) -> str:
    return f"{e.format(e.value, sign=True)} {e.shown_unit}, {e.interval_text()}"


def _in_words(f: Estimate, b: Estimate, reasons: Sequence[str], *, agree: bool, broken: bool) -> str:
    both = f"{f.format(f.value, sign=True)} and {b.format(b.value, sign=True)} {f.shown_unit}"
    if agree:
        verdict = {1: "above zero", -1: "below zero", 0: "not told from zero"}[_says_of_zero(f)]
        return f"Both schools agree: {both}, {verdict} by either.{_widths(f, b)}"
    if broken:
        return f"The two schools contradict each other ({both}), and nothing listed explains it: {_look_at(f, b)}."
    if reasons:
        return f"The two schools part ({both}) because {'; and '.join(reasons)}."
    if _near(f, b):
        return f"Both schools agree ({both}), but zero lies just inside one range and just outside the other: read it as open."
    gap = abs(b.value - f.value) / _scale_of(f, b)
    return f"The two schools differ ({both}) by {gap:.1f} standard errors, and no reason was found; their ranges overlap."


def _widths(f: Estimate, b: Estimate) -> str:
    """Why one range is much wider than the other, where both say the same; empty where neither is."""
    if not (f.has_interval and b.has_interval and min(f.high - f.low, b.high - b.low) > 0):
        return ""
    ratio = (b.high - b.low) / (f.high - f.low)
    if 1 / UNEVEN <= ratio <= UNEVEN:
        return ""
    wider, times = ("Bayesian", ratio) if ratio > 1 else ("frequentist", 1 / ratio)
    said = f" The {wider} range is {times:.1f} times as wide"
    stopping = _stopping(f, b)
    if wider == "frequentist" and stopping is not None:
        return f"{said}: it {_why_wide(f)}."
    if wider == "Bayesian" and f.se_kind == "between strata":
        return f"{said}: the model does not hold so many strata constant, as the other does."
    likelihood = _likelihood(f, b)
    return f"{said}: {likelihood[0].split(', so its')[0]}." if likelihood else f"{said}."


def _look_at(f: Estimate, b: Estimate) -> str:
    ratio = b.se / f.se if f.se > 0 else math.inf
    if not 1 / UNEVEN < ratio < UNEVEN:
        return f"look at the errors first, the model's is {ratio:.1f} times the other's"
    return "look at the rows, the covariates and the convergence of the model first"


def _check(f: Estimate, b: Estimate, *, contradict: bool, because: str) -> Check:
    failed = contradict and not because
    if failed:
        sentence = f"Two ways to analyse the same data contradict each other, and no reason was found: {_look_at(f, b)}."
    elif contradict:
        sentence = f"Two ways to analyse the same data say different things of zero, because {because}."
    else:
        sentence = (
            "Two ways to analyse the same data, with a prior and without, do not contradict each other."
        )
    return Check(
        name="both schools",
        status="failed" if failed else "passed",
        sentence=sentence,
        statistic=abs(b.value - f.value) / _scale_of(f, b),
        statistic_name="distance in standard errors",
        power="answers that exclude zero on opposite sides, or one that excludes it where the other holds it by a quarter "
        "of its error; both read the same data and can be wrong together",
        needed=True,
    )
