"""Prices where there is a ledger: what is priced anew, and which budgets an estimate would count for."""
