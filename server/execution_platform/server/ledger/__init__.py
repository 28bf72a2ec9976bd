"""The ledger: what was used, what it cost, and what may still be spent.

ledger       the one door that chats come through
facts        what a chat tells the ledger, and what it may spend
books        everything below in one hand: opened, kept going, closed
store        where accounts are kept: SQLite or PostgreSQL, its tables, its connections, its migrations
writing      how chats are written down: many in one transaction, durable before their callers hear of the end
budgets      what may be spent: which budgets a chat touches, their windows, what is left of them, who changes them
reading      what was written, for those who ask: records, sums, files
pricing      prices where there is a ledger: what is priced anew, and which budgets an estimate would count for
alerts       what somebody should know, and telling them
forecasts    what it will come to
reports      what people read: pages, chargeback, a mail each day
"""
