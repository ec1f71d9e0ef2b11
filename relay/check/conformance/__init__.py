"""Whether a relay does what the NIPs say: one test for each rule, for any relay.

rules.py      what a rule is; a chapter holds the rules of one NIP
nip*.py       the rules
catalogue.py  all chapters
trial.py      what a rule is given: fresh clients, keys, words, HTTP, and the transcript of it all
client.py     one connection and what is said on it
run.py        tries the rules, a few at a time; every one gets a verdict
report.py     the outcome as a table, and as JSON
"""
