"""What may be spent: which budgets a chat touches, their windows, what is left of them, who changes them."""
