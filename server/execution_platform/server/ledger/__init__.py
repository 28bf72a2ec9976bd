"""The ledger: what was used, what it cost, and what may still be spent.

tables       what is stored
facts        what a chat tells the ledger, and what it may spend
ledger       the one door that chats come through
"""
