"""The default store: one SQLite file, one writing process, any number of reading ones.

schema       tables and indexes, their version, and the way from one version to the next
connection   opening a file, and SQLite's errors in this package's terms
lock         one writer at a time, across processes
places       the row id that is NIP-01's order
keys         keyed hashes: what the indexes hold instead of values
rows         what is read off the canonical JSON: the exact checks behind the hashes
writer       the commit
checkpoints  moving the log of changes into the file, beside the commits
words        a filter's tags as full-text expressions
planner      filter → scan
scans        the ways through the indexes, in bounded steps
query        scans → pages
entries      counting in an index alone
counting     entries and scans → counts
search_index the index of texts, which follows the log
search_scan  looking up a search, newest first or best first
search_query searches → pages
reader       the `EventReader`
"""
