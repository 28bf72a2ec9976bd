"""What it will come to: a spending's days, carried on as many possible futures, of which sums and intervals are taken.

days        the history, on the scale that models see it on
plain       models that need no library
smoothing   exponential smoothing
choice      which of them
today       the part of today that is still to come
reading     histories out of the ledger
outlook     whether budgets will hold
forecasts   all of it together
"""
