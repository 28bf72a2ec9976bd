"""Reports for people: what was spent, gathered in one reading of the ledger and set as a page, as text or as CSV.

document    what a report says, however it is set
sums        what is gathered for it
overview, chargeback, daily     the reports
page, charts, text, comma       how they are set
reporter    all of it together
mail        the daily one, sent once
"""
