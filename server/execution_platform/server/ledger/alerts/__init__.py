"""What somebody should know about the money: raised with the ledger's own transactions, told at least once.

observer     what whoever writes the ledger shows of it
rules        what is raised when records are settled and budgets run out
anomalies    what is raised when more is spent than usual, or than was allowed for an hour
baseline     what usual is
wording      what alerts say
outbox       where alerts and their deliveries are written
deliveries   the queue of deliveries, on a connection
delivery     tells targets, again and again until they take it
sending      how one alert is sent to one target
feed         alerts as they are raised, for all who watch
desk         all of it, as a process has it
"""
