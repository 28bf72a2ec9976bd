"""What somebody should know about the money: raised with the ledger's own transactions, told at least once.

rules      what is raised when records are settled and budgets run out
outbox     where alerts and their deliveries are written
"""
