"""Estimate + costs -> what the program cost, what it brought, the chance that it pays back, and what would change that."""

from ldlab.money.worth import full_cost, payback, sensitivity_table

__all__ = ["full_cost", "payback", "sensitivity_table"]
